# mmtx as a command. docs/install.md has the lines that build and run it.
FROM python:3.11

# The index of torch's wheels for CPUs, as pytorch.org shows it; without it they are PyPI's, which bring CUDA.
ARG TORCH_INDEX=""

WORKDIR /mmtx
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY conf conf
RUN if [ -n "$TORCH_INDEX" ]; then \
      pip install --no-cache-dir -c constraints.txt --index-url "$TORCH_INDEX" torch torchvision torchaudio; \
    fi \
    && pip install --no-cache-dir -c constraints.txt '.[speech]'

# Runs are written where the user's folder is mounted.
WORKDIR /work
ENTRYPOINT ["mmtx"]
CMD ["--help"]
