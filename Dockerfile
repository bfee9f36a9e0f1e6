# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# The dependencies alone: this layer stays until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/it tests/peers benches \
    && echo 'fn main() {}' | tee src/main.rs tests/it/main.rs tests/peers/main.rs benches/load.rs > /dev/null \
    && touch src/lib.rs \
    && cargo build --locked --release --no-default-features \
    && rm -rf src tests benches

COPY migrations ./migrations
COPY src ./src
# The stand-ins of above are newer than the sources.
RUN mkdir -p tests/it tests/peers benches \
    && touch tests/it/main.rs tests/peers/main.rs benches/load.rs \
    && find src migrations -type f -exec touch {} + \
    && cargo build --locked --release --no-default-features --bin runner-broker

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/runner-broker /runner-broker
USER nonroot
EXPOSE 8000
ENTRYPOINT ["/runner-broker"]
CMD ["serve"]
