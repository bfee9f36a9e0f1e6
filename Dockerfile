# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src

# The dependencies alone: this layer stays until Cargo.toml or Cargo.lock changes. Cargo wants a file for every
# target that Cargo.toml names, whether it is built or not.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests/it tests/peers benches \
    && echo 'fn main() {}' | tee src/main.rs tests/it/main.rs tests/peers/main.rs benches/load.rs benches/scale.rs benches/seal.rs benches/soak.rs > /dev/null \
    && touch src/lib.rs \
    && cargo build --locked --release --no-default-features \
    && rm -rf src

COPY migrations ./migrations
COPY src ./src
# The stand-ins that were built are newer than the sources.
RUN find src migrations -type f -exec touch {} + \
    && cargo build --locked --release --no-default-features --bin runner-broker

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/runner-broker /runner-broker
USER nonroot
EXPOSE 8000
ENTRYPOINT ["/runner-broker"]
CMD ["serve"]
