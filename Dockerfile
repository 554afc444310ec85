# lmsi on Debian with all that its tests need, but for a browser:
#
#   docker build -t lmsi .
#   docker run --rm lmsi make test
#   docker run --rm -v "$PWD:/data" -w /data lmsi lmsi sample questions.jsonl -m model.gguf -o runs/first
#
# llama.cpp is compiled for the CPU that builds the image; build it where it is to run.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates cmake git python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# PyTorch without CUDA, which would be several gigabytes more
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1
RUN useradd --create-home lmsi
USER lmsi
WORKDIR /home/lmsi/lmsi
COPY --chown=lmsi . .
RUN make install
ENV PATH=/home/lmsi/lmsi/.venv/bin:$PATH
CMD ["lmsi", "doctor"]
