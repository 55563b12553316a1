# The service is the last stage; `--target load` builds the load scripts with the service they start.
# Every package comes from a lock file with its hash; no stage that is shipped has pip or a compiler.

FROM python:3.13-slim-trixie AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements-build.lock requirements.lock ./
RUN pip install --quiet --require-hashes -r requirements-build.lock \
    && python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --quiet --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY delayed_consumer/ delayed_consumer/
RUN pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/venv/bin/python install --quiet --no-deps --no-index dist/*.whl

FROM builder AS load-builder
COPY requirements-dev.lock ./
RUN pip --python /opt/venv/bin/python install --quiet --require-hashes -r requirements-dev.lock

FROM python:3.13-slim-trixie AS base
# pip has compiled the bytecode already, and the root may be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HTTP_HOST=0.0.0.0
USER 10001:10001
STOPSIGNAL SIGTERM

FROM base AS load
ENV MPLCONFIGDIR=/tmp
WORKDIR /app
COPY --from=load-builder /opt/venv /opt/venv
COPY load/ load/
ENTRYPOINT ["python", "-m", "load"]

FROM base AS service
LABEL org.opencontainers.image.title="delayed-consumer" \
      org.opencontainers.image.description="Reads a Kafka topic N seconds late: never early, about a millisecond late, nothing lost." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /opt/venv /opt/venv
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["delayed-consumer", "healthcheck"]
# Without a command it is `delayed-consumer run`. As PID 1 it gets the signals itself: no shell, no init.
ENTRYPOINT ["delayed-consumer"]
