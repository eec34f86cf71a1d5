{{/* The start of every object's name: that of a Service begins with a letter and has no dots. */}}
{{- define "eventfleet.fullname" -}}
{{- $name := .Release.Name | replace "." "-" | trunc 20 | trimAll "-" -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- fail (printf "the release name %s begins with a digit, which the name of a Service can't" .Release.Name) -}}
{{- end -}}
{{- contains "eventfleet" $name | ternary $name (printf "%s-eventfleet" $name) -}}
{{- end -}}

{{/* The labels that select pods: of all, or with `component` (and `domain`) of one workload. */}}
{{- define "eventfleet.selectorLabels" -}}
app.kubernetes.io/name: eventfleet
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . | quote }}
{{- end }}
{{- with .domain }}
eventfleet/domain: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "eventfleet.labels" -}}
{{ include "eventfleet.selectorLabels" . }}
app.kubernetes.io/part-of: eventfleet
app.kubernetes.io/version: {{ (include "eventfleet.build" . | fromJson).tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- end -}}

{{/* Tag and digest of a component's image, as JSON: in a roll-out, those behind `through` keep the previous one. */}}
{{- define "eventfleet.build" -}}
{{- $rank := dict "append" 1 "snapshot" 2 "relay" 3 "project" 4 "command" 5 "serve" 6 -}}
{{- $rollout := .root.Values.rollout -}}
{{- if gt (get $rank (.component | default "") | default 0) (get $rank $rollout.through) -}}
{{- if not (or $rollout.previous.tag $rollout.previous.digest) -}}
{{- fail "rollout.previous.tag, or digest, is needed with rollout.through: the image of the roles behind it" -}}
{{- end -}}
{{- $rollout.previous | toJson -}}
{{- else -}}
{{- .root.Values.image | toJson -}}
{{- end -}}
{{- end -}}

{{- define "eventfleet.image" -}}
{{- $build := include "eventfleet.build" . | fromJson -}}
{{- if $build.digest -}}
{{- printf "%s@%s" .root.Values.image.repository $build.digest | quote -}}
{{- else -}}
{{- printf "%s:%s" .root.Values.image.repository ($build.tag | default .root.Chart.AppVersion) | quote -}}
{{- end -}}
{{- end -}}

{{/* The workloads of workers, as JSON: one for each enabled role of each domain, its values merged. */}}
{{- define "eventfleet.workers" -}}
{{- $workers := list -}}
{{- $names := dict -}}
{{- range $domain := .Values.domains -}}
{{- $workload := $domain.name | replace "_" "-" -}}
{{- if hasKey $names $workload -}}
{{- fail (printf "domains: %s and %s have workloads of one name" (get $names $workload) $domain.name) -}}
{{- end -}}
{{- $_ := set $names $workload $domain.name -}}
{{- $own := $domain.roles | default dict -}}
{{- range $role, $values := $.Values.roles -}}
{{- $merged := mergeOverwrite (deepCopy $values) (deepCopy (get $own $role | default dict)) -}}
{{- if ne $merged.enabled false -}}
{{- $name := printf "%s-%s-%s" (include "eventfleet.fullname" $) $workload $role -}}
{{- if gt (len $name) 52 -}}
{{- fail (printf "domains: the name %s is longer than 52 characters; choose a shorter release name" $name) -}}
{{- end -}}
{{- include "eventfleet.checkLimits" (dict "place" (printf "roles.%s" $role) "resources" $merged.resources) -}}
{{- $workers = append $workers (dict "name" $name "domain" $domain "role" $role "values" $merged) -}}
{{- end -}}
{{- end -}}
{{- range $role, $_ := $own -}}
{{- if not (hasKey $.Values.roles $role) -}}
{{- fail (printf "domains: %s has values for the role %s, which `roles` does not have" $domain.name $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $workers | toJson -}}
{{- end -}}

{{/* Bytes, cores, as a number: 512Mi, 0.5, 1e9. */}}
{{- define "eventfleet.quantity" -}}
{{- $text := . | toString -}}
{{- $factor := get (dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0) (regexFind "[A-Za-z]+$" $text) -}}
{{- mulf (regexReplaceAll "[A-Za-z]+$" $text "" | float64) ($factor | default 1.0) -}}
{{- end -}}

{{/* Refuses limits below the requests. */}}
{{- define "eventfleet.checkLimits" -}}
{{- $place := .place -}}
{{- $requests := .resources.requests | default dict -}}
{{- range $name, $limit := .resources.limits | default dict -}}
{{- with get $requests $name -}}
{{- if gt (include "eventfleet.quantity" . | float64) (include "eventfleet.quantity" $limit | float64) -}}
{{- fail (printf "%s.resources: the limit of %s, %v, is below its request, %v" $place $name $limit .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The modules of some domains, comma-separated. */}}
{{- define "eventfleet.modules" -}}
{{- $modules := list -}}
{{- range . -}}{{- $modules = append $modules .module -}}{{- end -}}
{{- $modules | uniq | join "," -}}
{{- end -}}

{{/* A reference to a key of a Secret. */}}
{{- define "eventfleet.secretKey" -}}
valueFrom:
  secretKeyRef:
    name: {{ .secret | quote }}
    key: {{ .key | quote }}
{{- end -}}

{{/* A setting whose value is in a Secret: `part` names the volume where those are files. */}}
{{- define "eventfleet.secretEnv" -}}
{{- if .root.Values.secretFiles -}}
- name: {{ .variable }}_FILE
  value: {{ printf "/etc/eventfleet/secrets/%s/%s" .part .key | quote }}
{{- else -}}
- name: {{ .variable }}
  {{- include "eventfleet.secretKey" . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Settings as variables; `own` names those that the chart gives values by itself. */}}
{{- define "eventfleet.settings" -}}
{{- $own := list "domains" "partitions" "replication" "topic_prefix" "group_prefix" "kafka_brokers" "kafka_security" "kafka_sasl_mechanism" "kafka_username" "kafka_password" "kafka_ca_file" "kafka_cert_file" "kafka_key_file" "kafka_instance_id" "mongo_url" "mongo_database" "redis_url" "metrics_host" "metrics_port" "http_host" "http_port" "http_metrics_port" "token_key_file" "token_key_url" "token_issuer" "token_audience" -}}
{{- range $name, $value := . -}}
{{- if has (lower $name) $own -}}
{{- fail (printf "settings: %s has a value of its own in this chart" $name) -}}
{{- end }}
- name: EVENTFLEET_{{ upper $name }}
  {{- /* Numbers of values files are floats, which are written with an exponent from a million on. */}}
  {{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
  value: {{ $value | int64 | toString | quote }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* The start of the names of consumer groups, with the same default as the setting. */}}
{{- define "eventfleet.groupPrefix" -}}
{{- .Values.groupPrefix | default (printf "%seventfleet" .Values.topicPrefix) -}}
{{- end -}}

{{/* Variables of Kafka; `secrets` of a role take the place of the shared Secret. */}}
{{- define "eventfleet.kafkaEnv" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $secret := .secrets.kafka | default $kafka.credentials.secret -}}
- name: EVENTFLEET_KAFKA_BROKERS
  value: {{ required "kafka.brokers is needed: host:port, comma-separated" $kafka.brokers | quote }}
- name: EVENTFLEET_KAFKA_SECURITY
  value: {{ $kafka.security | quote }}
{{- if hasPrefix "SASL" $kafka.security }}
- name: EVENTFLEET_KAFKA_SASL_MECHANISM
  value: {{ $kafka.saslMechanism | quote }}
{{- $scope := dict "root" .root "part" "kafka" "secret" (required "kafka.credentials.secret is needed with SASL: the Secret of user name and password" $secret) }}
{{ include "eventfleet.secretEnv" (merge (dict "variable" "EVENTFLEET_KAFKA_USERNAME" "key" $kafka.credentials.usernameKey) $scope) }}
{{ include "eventfleet.secretEnv" (merge (dict "variable" "EVENTFLEET_KAFKA_PASSWORD" "key" $kafka.credentials.passwordKey) $scope) }}
{{- end }}
{{- if ne (empty $kafka.tls.certKey) (empty $kafka.tls.keyKey) }}
{{- fail "kafka.tls: certKey and keyKey are needed together" }}
{{- end }}
{{- if $kafka.tls.secret }}
{{- range $setting, $key := dict "CA" $kafka.tls.caKey "CERT" $kafka.tls.certKey "KEY" $kafka.tls.keyKey }}
{{- if $key }}
- name: EVENTFLEET_KAFKA_{{ $setting }}_FILE
  value: {{ printf "/etc/eventfleet/kafka/%s" $key | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.topicPrefix }}
- name: EVENTFLEET_TOPIC_PREFIX
  value: {{ . | quote }}
{{- end }}
- name: EVENTFLEET_GROUP_PREFIX
  value: {{ include "eventfleet.groupPrefix" .root | quote }}
- name: EVENTFLEET_PARTITIONS
  value: {{ .root.Values.partitions | int | quote }}
- name: EVENTFLEET_REPLICATION
  value: {{ .root.Values.replication | int | quote }}
{{- end -}}

{{/* Variables of MongoDB and Redis. */}}
{{- define "eventfleet.storesEnv" -}}
- name: EVENTFLEET_MONGO_DATABASE
  value: {{ .root.Values.mongodb.database | quote }}
{{ include "eventfleet.urlEnv" (dict "root" .root "variable" "EVENTFLEET_MONGO_URL" "part" "mongodb" "server" .root.Values.mongodb "secret" .secrets.mongodb) }}
{{ include "eventfleet.urlEnv" (dict "root" .root "variable" "EVENTFLEET_REDIS_URL" "part" "redis" "server" .root.Values.redis "secret" .secrets.redis) }}
{{- end -}}

{{- define "eventfleet.urlEnv" -}}
{{- $secret := .secret | default .server.urlSecret.secret -}}
{{- if $secret -}}
{{ include "eventfleet.secretEnv" (dict "root" .root "variable" .variable "part" .part "secret" $secret "key" .server.urlSecret.key) }}
{{- else -}}
- name: {{ .variable }}
  value: {{ required (printf "%s.url or %s.urlSecret.secret is needed" .part .part) .server.url | quote }}
{{- end }}
{{- end -}}

{{/* The Secrets that a pod mounts, as JSON, by the names of their volumes and of their folders in
     /etc/eventfleet: certificates and, as files, user names, passwords and URLs. */}}
{{- define "eventfleet.files" -}}
{{- $values := .root.Values -}}
{{- $files := dict "kafka" $values.kafka.tls.secret "mongodb" $values.mongodb.tls.secret "redis" $values.redis.tls.secret -}}
{{- if $values.secretFiles -}}
{{- if hasPrefix "SASL" $values.kafka.security -}}
{{- $_ := set $files "secrets/kafka" (.secrets.kafka | default $values.kafka.credentials.secret) -}}
{{- end -}}
{{- if not .kafkaOnly -}}
{{- $_ := set $files "secrets/mongodb" (.secrets.mongodb | default $values.mongodb.urlSecret.secret) -}}
{{- $_ := set $files "secrets/redis" (.secrets.redis | default $values.redis.urlSecret.secret) -}}
{{- end -}}
{{- end -}}
{{- $files | toJson -}}
{{- end -}}

{{- define "eventfleet.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- range $folder, $secret := include "eventfleet.files" . | fromJson }}
{{- if $secret }}
- name: {{ $folder | replace "/" "-" }}
  secret: {secretName: {{ $secret | quote }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}

{{- define "eventfleet.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- range $folder, $secret := include "eventfleet.files" . | fromJson }}
{{- if $secret }}
- name: {{ $folder | replace "/" "-" }}
  mountPath: /etc/eventfleet/{{ $folder }}
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{/* What all pods have in common; Pod Security `restricted`. */}}
{{- define "eventfleet.podSpec" -}}
{{- if not .hook }}
serviceAccountName: {{ include "eventfleet.fullname" .root }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
volumes:
  {{- include "eventfleet.volumes" . | nindent 2 }}
{{- end -}}

{{- define "eventfleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Pods of a workload on different nodes and zones, where there are any. */}}
{{- define "eventfleet.spread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "eventfleet.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{/* Probes on the metrics port. A worker waits a minute for a server that is away, and `/live` fails
     after a minute without progress: only what lasts longer restarts a pod. */}}
{{- define "eventfleet.probes" -}}
startupProbe:
  httpGet: {path: /live, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 36
livenessProbe:
  httpGet: {path: /live, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /ready, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Rules of a NetworkPolicy for some ports: of `all`, or of these peers; none without peers. */}}
{{- define "eventfleet.peers" -}}
{{- if .peers -}}
- ports:
    {{- range .ports }}
    - {port: {{ ternary . (int .) (kindIs "string" .) }}, protocol: TCP}
    {{- end }}
  {{- if not (kindIs "string" .peers) }}
  {{ .direction }}:
    {{- toYaml .peers | nindent 4 }}
  {{- end }}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/* Egress of a NetworkPolicy: names, and the servers. */}}
{{- define "eventfleet.egress" -}}
{{- $servers := .Values.networkPolicy.servers -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- if $servers.peers }}
{{ include "eventfleet.peers" (dict "direction" "to" "peers" $servers.peers "ports" $servers.ports) }}
{{- end }}
{{- end -}}
