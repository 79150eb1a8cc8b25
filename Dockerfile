# The whole suite in one image:
#   docker build -t crypto-exchange-backend .
#   docker run -p 8000:8000 --env-file ./.env crypto-exchange-backend
# compose.yaml runs the same image once for each service.
FROM python:3.11-slim AS build

# For mypyc; the engine stays interpreted where this is set to nothing.
ARG COMPILER="gcc libc6-dev"
RUN [ -z "$COMPILER" ] || (apt-get update -qq && apt-get install -y -qq --no-install-recommends $COMPILER)

WORKDIR /app
RUN python3 -m venv /venv
COPY requirements.lock ./
RUN /venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY . .
RUN CLEARBOOK_COMPILE=1 /venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation -e . \
    && rm -rf build

FROM python:3.11-slim

RUN useradd --uid 10001 --create-home --home-dir /home/clearbook clearbook \
    && install -d -o clearbook -g clearbook /data /certificates /public /certs \
        /certs/book /certs/publisher /certs/gateway /certs/settler /certs/http /certs/public
COPY --from=build /venv /venv
COPY --from=build /app /app
# The embedded run trusts whoever reaches it (CLEARBOOK_AUTH=open), in plain text. Inside a container that is whoever
# `-p` lets in: keep it on the host's loopback.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CLEARBOOK_DATA=/data \
    CLEARBOOK_OPEN_BIND=1 \
    CLEARBOOK_PLAINTEXT_BIND=1
WORKDIR /app
USER clearbook
VOLUME /data
EXPOSE 8000 50051 50052
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 \
    CMD ["clearbook", "health", "http://127.0.0.1:8000/readyz"]
CMD ["clearbook", "up", "--host", "0.0.0.0", "--data", "/data"]
