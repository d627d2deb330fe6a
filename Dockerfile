# One image for every role: receiver, worker, beat and migrate differ only in their command.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/vodsync \
 && /opt/vodsync/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY migrations migrations
COPY worker worker
RUN /opt/vodsync/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/vodsync --create-home vodsync
COPY --from=build /opt/vodsync /opt/vodsync
ENV PATH=/opt/vodsync/bin:$PATH PYTHONUNBUFFERED=1
# The spool and the embedded broker live in the working directory.
WORKDIR /var/lib/vodsync
VOLUME /var/lib/vodsync
USER vodsync
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["vodsync"]
CMD ["up", "--host", "0.0.0.0"]
