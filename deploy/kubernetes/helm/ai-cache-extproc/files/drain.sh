#!/bin/bash
# preStop of Envoy: fails its readiness, gives the endpoints time to go, and waits until no request is under way.
# drain.sh SECONDS_MAX. The image has no HTTP client, but a shell that speaks TCP.
port=${ENVOY_ADMIN_PORT:-9902}

ask() {
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return
    printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
    cat <&3
    exec 3>&-
}

ask POST /healthcheck/fail >/dev/null || exit 0
for ((waited = 0; waited < $1; waited++)); do
    ((waited < ${ENDPOINTS_SECONDS:-5})) || ! ask GET /stats?filter=http.llm.downstream_rq_active | grep -q 'active: 0' || exit 0
    sleep 1
done
