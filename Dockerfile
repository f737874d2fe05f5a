# Chromogen for a machine without a GPU, run as no one in particular. From the sources, with the address of PyTorch's CPU
# builds, or torch brings gigabytes of CUDA: docker build --tag chromogen --build-arg PIP_EXTRA_INDEX_URL=ADDRESS .
FROM node:22-slim AS page
WORKDIR /source/web
COPY web/package.json web/package-lock.json ./
RUN npm ci
COPY web ./
RUN npm run build

FROM python:3.12-slim AS wheel
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src ./src
COPY --from=page /source/src/chromogen/web/dist ./src/chromogen/web/dist
ENV CHROMOGEN_NO_PAGE=1
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /work
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/wheels.txt \
    pip install --no-cache-dir --constraint /wheels.txt "$(echo /wheels/*.whl)[view,cluster]" \
    && useradd --create-home --uid 1000 chromogen
USER 1000
ENTRYPOINT ["chromogen"]
CMD ["--help"]
