# The proxy in an image: docker build -t wallie-litellm . && docker run --read-only (see deploy/).
ARG PYTHON=3.11
FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN python -m venv /opt/wallie
COPY constraints.txt pyproject.toml README.md LICENSE router_config.yaml router_config.schema.json ./
COPY callbacks ./callbacks
COPY docs/playbook.md ./docs/playbook.md
COPY wallie_litellm ./wallie_litellm
RUN /opt/wallie/bin/pip install --no-cache-dir --constraint constraints.txt '.[proxy,postgres,redis,posthog]' \
    && /opt/wallie/bin/python -m compileall -q /opt/wallie

FROM python:${PYTHON}-slim
COPY --from=build /opt/wallie /opt/wallie
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin wallie \
    && install --directory --owner wallie /config /data
ENV PATH=/opt/wallie/bin:$PATH \
    HOME=/tmp \
    LITELLM_LOCAL_MODEL_COST_MAP=True \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WALLIE_CONFIG=/config/router_config.yaml
# /config has router_config.yaml and callbacks/wallie.py; the ledger and the spool are in the working directory.
WORKDIR /data
VOLUME ["/data"]
USER 10001
EXPOSE 4000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4000/health/liveliness', timeout=4)"]
ENTRYPOINT ["wallie-litellm"]
CMD ["proxy", "--host", "0.0.0.0", "--port", "4000"]
