#!/bin/sh
# Prints the Redis users of one domain's roles, as lines of an ACL file (`aclfile` in redis.conf):
#
#   ./redis-users.sh DOMAIN FOLDER > users.acl
#
# FOLDER holds the passwords, in files named as the roles: append, snapshot, relay, command, serve,
# audit, and project for a domain with views. The file has their hashes only. The users are
# DOMAIN-append and so on, behind the topic prefix where there is one (the variable TOPIC_PREFIX, as
# EVENTFLEET_TOPIC_PREFIX). One line more switches off the user without a name.
set -eu

prefix=${TOPIC_PREFIX:-}
domain=${1:?is missing: the name of a domain}
passwords=$2

connect="+info +ping +select +client|setname +script|load"
scripts="+evalsha +time +get +set +del +hget +hset +hmget +hdel +pexpire +persist"
markers="~${prefix}life ~${prefix}marker:$domain:* ~${prefix}done:$domain:*"
# The services of a followed domain pass commands on to each other.
feeds="+publish ~${prefix}eventfleet.feeds.$domain.claims.* &${prefix}eventfleet.feeds.$domain.*"
notices="&${prefix}notices:*"

user() {
    role=$1
    shift
    hash=$(tr -d '\n' < "$passwords/$role" | sha256sum | cut -d ' ' -f 1)
    echo "user $prefix$domain-$role on #$hash resetkeys resetchannels -@all $connect $*"
}

echo "user default off"
for role in append snapshot relay project; do
    if [ "$role" != project ] || [ -e "$passwords/project" ]; then
        user "$role" "+publish $notices"
    fi
done
user command "$scripts $markers ~${prefix}owner:$domain:*"
user serve "$scripts $markers +subscribe $notices $feeds"
user audit "+hmget %R~${prefix}life %R~${prefix}marker:$domain:*"
