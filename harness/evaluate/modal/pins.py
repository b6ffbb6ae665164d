"""The image that containers start from: its base by tag, and by digest once that was recorded.

A tag can be moved to another image; a digest cannot. `harness modal pin` asks the registry which
digest the tag has now and keeps it in HARNESS_CACHE/modal/pins.json; from the next deployment on
the image is made from that digest. Until then it is shown as "unpinned": nothing is assumed.

The versions are those with which this project's evaluator was run on an H100 (docs/measurements).
Images with a GPU also hold what the shipped suites' baselines need, in the suites' own versions.

Covered: the reference, the packages, the digest of a public image on Docker Hub.
Not covered: versions of the Ubuntu packages (g++), which are the base image's and its archive's,
and of what torch itself needs.
"""

from __future__ import annotations

import json
import os
import re
from datetime import date
from pathlib import Path

import httpx

from harness.errors import EnvironmentMissing, LogError
from harness.folder import write_text
from harness.foreign.environments import cache_folder
from harness.suite import SUITES, Suite, load_suite
from harness.types import JsonObject

REPOSITORY, TAG = "nvidia/cuda", "13.0.1-devel-ubuntu24.04"
PYTHON = "3.12"
TORCH_INDEX = "https://download.pytorch.org/whl/cu130"
TORCH = ("torch==2.11.0", "triton==3.6.0")
PACKAGES = ("numpy==2.5.2", "apache-tvm-ffi==0.1.15.post2")  # TVM-FFI: a binding of kernels

UNPINNED = "unpinned"
_TOKENS = "https://auth.docker.io/token"
_REGISTRY = "https://registry-1.docker.io"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_KINDS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


def gpu_packages() -> list[str]:
    """What the baselines of the shipped suites on a GPU need beyond torch, with versions."""
    return list(dict.fromkeys(package for suite in _gpu_suites() for package in suite.packages))


def preparations() -> list[str]:
    """The modules that make these baselines ready, on a GPU."""
    return list(dict.fromkeys(suite.prepare for suite in _gpu_suites() if suite.prepare))


def _gpu_suites() -> list[Suite]:
    return [suite for suite in map(load_suite, SUITES) if suite.device != "cpu"]


def pins_path() -> Path:
    return cache_folder() / "modal" / "pins.json"


def pinned_digest() -> str | None:
    """The recorded digest of the tag above, or None. Raises LogError for a damaged file."""
    path = pins_path()
    try:
        digest = json.loads(path.read_text(encoding="utf-8")).get(f"{REPOSITORY}:{TAG}", {})
        found = digest.get("digest")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise LogError(f"Cannot read {path}: {error}. Delete it and pin again.") from error
    if found is not None and not _DIGEST.fullmatch(str(found)):
        raise LogError(f"{path} holds no digest: {found!r}. Delete it and pin again.")
    return None if found is None else str(found)


def reference() -> str:
    """What the image is made from: by digest where one is recorded, else by tag."""
    digest = pinned_digest()
    return f"{REPOSITORY}@{digest}" if digest else f"{REPOSITORY}:{TAG}"


def image_facts(deployed: str | None, *, on_gpu: bool) -> JsonObject:
    """For the manifest. deployed: the reference that a container says it was made from. on_gpu:
    whether it is the image of the functions that have one."""
    digest = _DIGEST.search(deployed or "")
    return {
        "base": f"{REPOSITORY}:{TAG}",
        "deployed": deployed,
        "digest": digest.group() if digest else UNPINNED,
        "python": PYTHON,
        "packages": [*TORCH, *PACKAGES, *(gpu_packages() if on_gpu else ())],
    }


def pin(*, tokens: str = _TOKENS, registry: str = _REGISTRY) -> str:
    """Ask the registry for the tag's digest and record it. Raises EnvironmentMissing."""
    try:
        with httpx.Client(timeout=30.0, follow_redirects=True) as client:
            scope = f"repository:{REPOSITORY}:pull"
            asked = client.get(tokens, params={"service": "registry.docker.io", "scope": scope})
            token = asked.raise_for_status().json()["token"]
            head = client.head(
                f"{registry}/v2/{REPOSITORY}/manifests/{TAG}",
                headers={"Authorization": f"Bearer {token}", "Accept": _KINDS},
            )
            digest = head.raise_for_status().headers.get("docker-content-digest", "")
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise EnvironmentMissing(
            f"The registry did not tell the digest of {REPOSITORY}:{TAG}: {error}. Try again; the "
            "image stays unpinned until then."
        ) from error
    if not _DIGEST.fullmatch(digest):
        raise EnvironmentMissing(
            f"The registry answered without a digest for {REPOSITORY}:{TAG} ({digest!r}). Try "
            "again; the image stays unpinned until then."
        )
    record = {"digest": digest, "recorded": date.today().isoformat()}
    os.makedirs(pins_path().parent, exist_ok=True)
    write_text(pins_path(), json.dumps({f"{REPOSITORY}:{TAG}": record}, indent=1) + "\n")
    return str(digest)
