# The sidecar, and the demo's upstream, in one image. Runs as uid 10001 on a read-only root; what it keeps is in
# /var/lib/aicache. The project's checks lint this file; they run no container engine, so they never build it.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# `--build-arg LOCK=embedded` adds semantic search with the models in the process, 200 MB more.
ARG LOCK=runtime
# The dependencies first, exactly as locked: they change less often than the code.
COPY requirements/${LOCK}.txt requirements/build.txt requirements/
RUN python -m venv /opt/aicache \
    && /opt/aicache/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/${LOCK}.txt \
    && pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY ai_cache_extproc ai_cache_extproc
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/aicache/bin/pip install --no-cache-dir --no-deps dist/*.whl \
    && /opt/aicache/bin/python -m compileall -q /opt/aicache/lib

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="ai-cache-extproc" \
    org.opencontainers.image.description="An LLM response cache that stands beside Envoy as an ext_proc sidecar." \
    org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 aicache \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin aicache \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/aicache
COPY --from=build /opt/aicache /opt/aicache
# The default store is $XDG_STATE_HOME/aicache/cache.db.
ENV PATH=/opt/aicache/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_STATE_HOME=/var/lib
USER 10001:10001
VOLUME /var/lib/aicache
EXPOSE 50051
# The admin address stays inside the container. Where AICACHE__ADMIN moves it, override this too.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9901/livez', timeout=2)"]
ENTRYPOINT ["aicache"]
# 127.0.0.1:50051 by default. Pods and `network_mode: service:envoy` share their loopback with Envoy; elsewhere give --listen.
CMD ["serve"]
