# The image of operator and verifier: the program and the libraries that it is linked with, and nothing else.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /tokenry
COPY . .
RUN cargo build --release --locked --bin tokenry
# glibc resolves names without further files. What ldd names has no place of its own in the next stage: it keeps its path.
RUN set -e; install -D target/release/tokenry /image/tokenry; \
    for library in $(ldd target/release/tokenry | grep -o '/[^ ]*'); do install -D "$library" "/image$library"; done; \
    chroot /image /tokenry --version

FROM scratch
LABEL org.opencontainers.image.title="tokenry" \
      org.opencontainers.image.description="A Kubernetes operator that issues, delivers, rotates and revokes API access tokens" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
# A number, so that Kubernetes can tell that it is not root.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/tokenry"]
