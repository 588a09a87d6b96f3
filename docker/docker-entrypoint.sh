#!/usr/bin/env bash
# The image's entry point. It takes what the entry point of Flink's own images takes, which is what Flink's Kubernetes
# Operator asks for:
#     jobmanager | standalone-job | taskmanager | history-server [ARGUMENTS]    that part of Flink, in the foreground
#     COMMAND [ARGUMENTS]                                                       anything else, as it stands
# A part of Flink is configured by the environment first: jobs/dev/image.py.
set -euo pipefail

part() {
    python -m riverrank.jobs.dev.image configure "$FLINK_HOME"
    exec "$FLINK_HOME/bin/$1" start-foreground "${@:2}"
}

case "${1:-help}" in
    jobmanager | standalone-job | taskmanager) part "$1.sh" "${@:2}" ;;
    history-server) part historyserver.sh "${@:2}" ;;
    help) echo "usage: $(basename "$0") (jobmanager|standalone-job|taskmanager|history-server) [ARGUMENTS], or a command" ;;
    *) exec "$@" ;;
esac
