{{/* The start of every object's name. */}}
{{- define "eventfleet.fullname" -}}
{{- if contains "eventfleet" .Release.Name -}}
{{- .Release.Name | trunc 20 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-eventfleet" (.Release.Name | trunc 20 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* The labels that select pods: of all, or with `component` (and `domain`) of one workload. */}}
{{- define "eventfleet.selectorLabels" -}}
app.kubernetes.io/name: eventfleet
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .domain }}
eventfleet/domain: {{ . }}
{{- end }}
{{- end -}}

{{- define "eventfleet.labels" -}}
{{ include "eventfleet.selectorLabels" . }}
app.kubernetes.io/part-of: eventfleet
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "eventfleet.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The workloads of workers, as JSON: one for each enabled role of each domain, its values merged. */}}
{{- define "eventfleet.workers" -}}
{{- $workers := list -}}
{{- range $domain := .Values.domains -}}
{{- $own := $domain.roles | default dict -}}
{{- range $role, $values := $.Values.roles -}}
{{- $merged := mergeOverwrite (deepCopy $values) (deepCopy (get $own $role | default dict)) -}}
{{- if ne $merged.enabled false -}}
{{- $name := printf "%s-%s-%s" (include "eventfleet.fullname" $) ($domain.name | replace "_" "-") $role -}}
{{- if gt (len $name) 52 -}}
{{- fail (printf "domains: the name %s is longer than 52 characters; choose a shorter release name" $name) -}}
{{- end -}}
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
    name: {{ .secret }}
    key: {{ .key }}
{{- end -}}

{{/* Settings as variables; `own` names those that the chart gives values by itself. */}}
{{- define "eventfleet.settings" -}}
{{- $own := list "domains" "partitions" "replication" "group_prefix" "kafka_brokers" "kafka_security" "kafka_sasl_mechanism" "kafka_username" "kafka_password" "kafka_ca_file" "kafka_cert_file" "kafka_key_file" "kafka_instance_id" "mongo_url" "mongo_database" "redis_url" "metrics_host" "metrics_port" "http_host" "http_port" "http_metrics_port" "token_key_file" "token_key_url" "token_issuer" "token_audience" -}}
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

{{/* Variables of Kafka; `secrets` of a role take the place of the shared Secret. */}}
{{- define "eventfleet.kafkaEnv" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $secret := .secrets.kafka | default $kafka.credentials.secret -}}
- name: EVENTFLEET_KAFKA_BROKERS
  value: {{ required "kafka.brokers is needed: host:port, comma-separated" $kafka.brokers | quote }}
- name: EVENTFLEET_KAFKA_SECURITY
  value: {{ $kafka.security }}
{{- if hasPrefix "SASL" $kafka.security }}
- name: EVENTFLEET_KAFKA_SASL_MECHANISM
  value: {{ $kafka.saslMechanism }}
- name: EVENTFLEET_KAFKA_USERNAME
  {{- include "eventfleet.secretKey" (dict "secret" (required "kafka.credentials.secret is needed with SASL: the Secret of user name and password" $secret) "key" $kafka.credentials.usernameKey) | nindent 2 }}
- name: EVENTFLEET_KAFKA_PASSWORD
  {{- include "eventfleet.secretKey" (dict "secret" $secret "key" $kafka.credentials.passwordKey) | nindent 2 }}
{{- end }}
{{- if $kafka.tls.secret }}
{{- range $setting, $key := dict "CA" $kafka.tls.caKey "CERT" $kafka.tls.certKey "KEY" $kafka.tls.keyKey }}
{{- if $key }}
- name: EVENTFLEET_KAFKA_{{ $setting }}_FILE
  value: /etc/eventfleet/kafka/{{ $key }}
{{- end }}
{{- end }}
{{- end }}
- name: EVENTFLEET_GROUP_PREFIX
  value: {{ .root.Values.groupPrefix }}
- name: EVENTFLEET_PARTITIONS
  value: {{ .root.Values.partitions | quote }}
- name: EVENTFLEET_REPLICATION
  value: {{ .root.Values.replication | quote }}
{{- end -}}

{{/* Variables of MongoDB and Redis. */}}
{{- define "eventfleet.storesEnv" -}}
- name: EVENTFLEET_MONGO_DATABASE
  value: {{ .root.Values.mongodb.database }}
{{ include "eventfleet.urlEnv" (dict "variable" "EVENTFLEET_MONGO_URL" "part" "mongodb" "server" .root.Values.mongodb "secret" .secrets.mongodb) }}
{{ include "eventfleet.urlEnv" (dict "variable" "EVENTFLEET_REDIS_URL" "part" "redis" "server" .root.Values.redis "secret" .secrets.redis) }}
{{- end -}}

{{- define "eventfleet.urlEnv" -}}
{{- $secret := .secret | default .server.urlSecret.secret -}}
- name: {{ .variable }}
{{- if $secret }}
  {{- include "eventfleet.secretKey" (dict "secret" $secret "key" .server.urlSecret.key) | nindent 2 }}
{{- else }}
  value: {{ required (printf "%s.url or %s.urlSecret.secret is needed" .part .part) .server.url | quote }}
{{- end }}
{{- end -}}

{{/* Volumes and mounts of the servers' certificates. */}}
{{- define "eventfleet.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- range $part, $secret := dict "kafka" .Values.kafka.tls.secret "mongodb" .Values.mongodb.tls.secret "redis" .Values.redis.tls.secret }}
{{- if $secret }}
- name: {{ $part }}
  secret: {secretName: {{ $secret }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- end -}}

{{- define "eventfleet.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- range $part, $secret := dict "kafka" .Values.kafka.tls.secret "mongodb" .Values.mongodb.tls.secret "redis" .Values.redis.tls.secret }}
{{- if $secret }}
- name: {{ $part }}
  mountPath: /etc/eventfleet/{{ $part }}
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{/* What all pods have in common; Pod Security `restricted`. */}}
{{- define "eventfleet.podSpec" -}}
{{- if not .hook }}
serviceAccountName: {{ include "eventfleet.fullname" . }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
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
