# The Claude Code provider balancer as a container: a user of its own, and nothing but Python and the pinned packages.
#
#   docker build -t claude-code-provider-balancer .
#   docker run -p 127.0.0.1:8080:8080 -v ./config:/etc/balancer:ro claude-code-provider-balancer
#
# ./config holds providers.yaml. Mount the folder, not the file: an editor that replaces the file would go unnoticed.
# Clients come from outside the container, so the configuration needs settings.auth.keys. compose.yaml does all of this.

FROM python:3.13-slim AS build
RUN ["python", "-m", "venv", "/opt/balancer"]
COPY requirements.txt requirements-build.txt /source/
RUN ["/opt/balancer/bin/python", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--require-hashes", "-r", "/source/requirements.txt"]
RUN ["python", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--require-hashes", "-r", "/source/requirements-build.txt"]
COPY pyproject.toml README.md LICENSE providers.example.yaml /source/
COPY docs/providers.schema.json /source/docs/
COPY src /source/src
WORKDIR /source
RUN ["python", "-m", "hatchling", "build", "-t", "wheel", "-d", "/wheel"]
RUN ["/opt/balancer/bin/python", "-m", "pip", "install", "--no-cache-dir", "--no-index", "--no-deps", "--find-links", "/wheel", "claude-code-provider-balancer"]
RUN ["/opt/balancer/bin/python", "-m", "pip", "uninstall", "-y", "pip"]

FROM python:3.13-slim
RUN ["useradd", "--system", "--uid", "10001", "--create-home", "--home-dir", "/var/lib/balancer", "balancer"]
COPY --from=build /opt/balancer /opt/balancer
ENV PATH="/opt/balancer/bin:$PATH" \
    BALANCER_CONFIG="/etc/balancer/providers.yaml" \
    PYTHONUNBUFFERED="1"
USER 10001:10001
# The log of requests is written here, in logs/.
WORKDIR /var/lib/balancer
VOLUME ["/var/lib/balancer"]
EXPOSE 8080
# Running answers may end; docker stop waits only 10 s by itself: docker stop -t 150 (compose.yaml does).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["balancer"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
