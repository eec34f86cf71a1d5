#!/bin/sh
# Gives the users of one domain's roles their rights on Kafka, by Kafka's own kafka-acls.sh:
#
#   BROKERS=kafka-1:9093 ADMIN_CONFIG=admin.properties ./kafka-acls.sh DOMAIN [TOPIC_OF_A_ROUTE...]
#
# The users are DOMAIN-append, DOMAIN-snapshot and so on, behind the topic prefix where there is one.
# Running it again changes nothing. Variables: TOPIC_PREFIX as EVENTFLEET_TOPIC_PREFIX, GROUP_PREFIX as
# EVENTFLEET_GROUP_PREFIX, PRINCIPALS the start of the principals' names (User:DOMAIN-), KAFKA_ACLS the
# program. The topics of routes are given as the routes name them, without the prefix.
set -eu

topics=${TOPIC_PREFIX:-}
domain=${1:?is missing: the name of a domain}
shift
groups=${GROUP_PREFIX:-${topics}eventfleet}.$domain
principals=${PRINCIPALS:-User:$topics$domain-}

# From here on, a domain's topics and those of routes are named as in Kafka.
domain=$topics$domain
for route in "$@"; do
    shift
    set -- "$@" "$topics$route"
done

allow() {
    role=$1
    shift
    "${KAFKA_ACLS:-kafka-acls.sh}" --bootstrap-server "$BROKERS" --command-config "$ADMIN_CONFIG" \
        --add --allow-principal "$principals$role" "$@"
}

# worker ROLE SOURCE TARGET...: a member of its group, which writes in transactions.
worker() {
    role=$1 source=$domain.$2
    shift 2
    allow "$role" --operation Read --topic "$source"
    allow "$role" --operation Read --group "$groups.$role"
    allow "$role" --operation Write \
        --transactional-id "$groups.$role-$source-" --resource-pattern-type prefixed
    for target in "$domain.dead-letters" "$@"; do
        allow "$role" --operation Write --topic "$target"
    done
}

# decider ROLE: produces events; a domain with markers looks how far append has come.
decider() {
    allow "$1" --operation Write --operation Read --topic "$domain.events"
    allow "$1" --operation Describe --group "$groups.append"
}

# Every process looks at the topics before it begins, and so does `eventfleet health`.
for role in topics append snapshot relay project command serve; do
    allow "$role" --operation Describe --operation DescribeConfigs \
        --topic "$domain." --resource-pattern-type prefixed
    for route in "$@"; do
        allow "$role" --operation Describe --topic "$route"
    done
done

allow topics --operation Create --topic "$domain." --resource-pattern-type prefixed
for route in "$@"; do
    allow topics --operation Create --topic "$route"
done

# It writes to events what it redrives, and what sweeps of a synchronous domain find.
worker append events "$domain.stored" "$domain.events" "$domain.parked"
worker snapshot stored "$domain.snapshots" "$domain.parked"
worker relay stored "$@" "$domain.parked"
allow relay --operation Read --topic "$domain.parked" # what an earlier owner has parked
worker project stored "$domain.parked"
allow project --operation Read --topic "$domain.parked"
worker command commands "$domain.replies"
decider command

decider serve
allow serve --operation Read --topic "$domain.stored"

allow audit --operation Read --topic "$domain." --resource-pattern-type prefixed
for route in "$@"; do
    allow audit --operation Read --topic "$route"
done
for role in append relay; do
    allow audit --operation Describe --group "$groups.$role"
done
