# docker build -t assay .                                 with CUDA; --build-arg FEATURES=workbench for the CPU alone
# docker run --rm --gpus all -v "$PWD:/work" assay demo   results in ./results/demo
FROM rust:1.95-bookworm AS build
ARG FEATURES=cuda
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin assay --features "$FEATURES" && strip target/release/assay

# The driver comes from the host (NVIDIA's container toolkit); NVRTC and CUDA's headers, which kernels are compiled with, are in this image.
FROM nvidia/cuda:13.0.0-devel-ubuntu24.04
COPY --from=build /src/target/release/assay /usr/local/bin/assay
WORKDIR /work
ENTRYPOINT ["assay"]
CMD ["help"]
