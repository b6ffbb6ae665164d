# The harness with everything that local evaluation needs, for machines that are not Linux.
#
#   docker build -t kernel-search-harness .
#   docker run --rm -v "$PWD/runs:/home/harness/app/runs" kernel-search-harness
#
# Candidates run in namespaces of their own. Docker's default seccomp profile forbids a process to
# make them; without them the harness falls back to Landlock (`harness doctor` says which is in
# force, and so does every manifest). To have namespaces, loosen the outer container:
#
#   docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
#     --security-opt systempaths=unconfined ...
#
# That trades the container's own filter for the harness's isolation of each candidate.
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home harness
USER harness
WORKDIR /home/harness/app

# The CPU build of torch, in a layer of its own: the default one on Linux brings gigabytes of CUDA
# libraries, and it need not be fetched again when the code changes.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --chown=harness constraints.txt ./
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" -c constraints.txt torch
COPY --chown=harness . .
RUN make .venv/.core prepare

ENV PATH=/home/harness/app/.venv/bin:$PATH
CMD ["make", "compare"]
