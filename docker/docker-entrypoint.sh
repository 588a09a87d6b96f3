#!/usr/bin/env bash
# The image's entry point. It takes what the entry point of Flink's own images takes, which is what Flink's Kubernetes
# Operator asks for:
#     jobmanager | standalone-job | taskmanager | history-server [ARGUMENTS]    that part of Flink, in the foreground
#     COMMAND [ARGUMENTS]                                                       anything else, as it stands
# A part of Flink is configured first: conf/config.yaml gets the address of the JobManager (JOB_MANAGER_RPC_ADDRESS, else
# this host), fixed ports, TASK_MANAGER_NUMBER_OF_TASK_SLOTS, and each line `key: value` of FLINK_PROPERTIES. A conf that
# can't be written, as the operator mounts it, says all by itself.
set -euo pipefail

configure() {
    local conf=$FLINK_HOME/conf key value
    [ -w "$conf/config.yaml" ] || return 0
    local options=(
        "-Djobmanager.rpc.address=${JOB_MANAGER_RPC_ADDRESS:-$(hostname -f)}"
        "-Dblob.server.port=6124"
        "-Dquery.server.port=6125"
    )
    if [ -n "${TASK_MANAGER_NUMBER_OF_TASK_SLOTS:-}" ]; then
        options+=("-Dtaskmanager.numberOfTaskSlots=$TASK_MANAGER_NUMBER_OF_TASK_SLOTS")
    fi
    while IFS=: read -r key value; do
        read -r key <<< "$key"
        read -r value <<< "$value"
        if [ -n "$key" ]; then options+=("-D$key=$value"); fi
    done <<< "${FLINK_PROPERTIES:-}"
    "$FLINK_HOME/bin/config-parser-utils.sh" "$conf" "$FLINK_HOME/bin" "$FLINK_HOME/lib" "${options[@]}"
}

case "${1:-help}" in
    jobmanager | standalone-job | taskmanager)
        configure
        exec "$FLINK_HOME/bin/$1.sh" start-foreground "${@:2}"
        ;;
    history-server)
        configure
        exec "$FLINK_HOME/bin/historyserver.sh" start-foreground "${@:2}"
        ;;
    help)
        echo "usage: $(basename "$0") (jobmanager|standalone-job|taskmanager|history-server) [ARGUMENTS], or any command"
        ;;
    *)
        exec "$@"
        ;;
esac
