# The image of the operator and the verifier. It has only the program, its shared libraries and the root certificates
# by which the operator verifies the certificates of published endpoints.
FROM rust:1.95-slim-bookworm AS build
# A profile of Cargo.toml. `.ci/image` sets `dev`, which takes a fraction of the CPU.
ARG PROFILE=release
WORKDIR /tokenry
COPY . .
RUN cargo build --profile "$PROFILE" --locked --bin tokenry
# The shared libraries keep their paths, because the loader looks for them there. glibc resolves DNS names without
# further files.
RUN set -e; install -D target/*/tokenry /image/tokenry; \
    for library in $(ldd /image/tokenry | grep -o '/[^ ]*'); do install -D "$library" "/image$library"; done; \
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt; \
    chroot /image /tokenry --version

FROM scratch
LABEL org.opencontainers.image.title="tokenry" \
      org.opencontainers.image.description="A Kubernetes operator that issues, delivers, rotates and revokes API access tokens" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
# Freed memory returns to the system after a millisecond. The first lists of many objects would keep some of it for ever.
# With 0, memory that each answer takes and frees could go back and forth.
ENV MIMALLOC_PURGE_DELAY=1
# The user is a number, so that Kubernetes can verify runAsNonRoot.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/tokenry"]
