#!/usr/bin/env bash
# Installs what the build needs and is missing: Debian packages, and .venv with torch and numpy.
#   tools/setup.sh        build, run and test
#   tools/setup.sh lint   clang-format and clang-tidy
#   tools/setup.sh bench  the libraries that the benchmark compares with: 0.7 GB to load, 2.5 GB on the disk
# A second run finds everything in place and changes nothing. Without root it installs no package but
# prints the command that does.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly torch_version=2.13.0
readonly stamp=.venv/.cenote-ready
readonly wanted="torch==$torch_version numpy"

say() { echo "== setup: $*"; }

fail() {
  echo "setup: $*" >&2
  exit 1
}

build_packages=(build-essential cmake ninja-build ccache pkg-config libhwy-dev libgtest-dev libgmock-dev
  librapidcheck-dev libcli11-dev libfmt-dev nlohmann-json3-dev libpng-dev zlib1g-dev dataset-fashion-mnist
  libonnx-dev libprotobuf-dev protobuf-compiler libonnx-testdata gnuplot-nox python3 python3-venv)
lint_packages=(clang-tidy-19 clang-format-19 libomp-19-dev)
bench_packages=(libdnnl-dev libxnnpack-dev libpthreadpool-dev valgrind)
readonly bench_python="onnxruntime==1.32.0 onnx==1.23.2"
readonly bench_onednn="onednn-devel==2026.1.0 tbb-devel==2023.2.0"
readonly bench_stamp=.venv/peers/.ready

missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "this is no Debian system; install the counterparts of: $*"
    return
  fi
  local missing
  mapfile -t missing < <(missing_packages "$@")
  if [ "${#missing[@]}" -eq 0 ]; then
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    echo "setup: these Debian packages are missing, and installing them needs root. Please run:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # An empty or old package list is refreshed, a good one is used as it is.
  if ! apt-cache show "${missing[@]}" >/dev/null 2>&1; then
    apt-get update -q
  fi
  apt-get install -y -q --no-install-recommends "${missing[@]}" ||
    { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; }
}

# Succeeds when .venv was completed by this script and still holds the wanted versions.
venv_is_ready() {
  [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python - "$torch_version" >/dev/null 2>&1 <<'PYTHON'
import sys
from importlib.metadata import version
version("numpy")
sys.exit(version("torch").split("+")[0] != sys.argv[1])
PYTHON
}

# Succeeds when the Python in .venv can load the torch that the build links against.
venv_works() {
  .venv/bin/python - "$torch_version" >/dev/null 2>&1 <<'PYTHON'
import sys
import numpy, torch
sys.exit(torch.__version__.split("+")[0] != sys.argv[1])
PYTHON
}

# The first Python that has wheels of this torch and can make a complete environment.
find_python() {
  local python
  for python in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
      >/dev/null 2>&1; then
      echo "$python"
      return
    fi
  done
  fail "no Python 3.10 to 3.13 with venv found. Please run:
  sudo apt-get install -y --no-install-recommends python3 python3-venv"
}

install_into_venv() {
  # shellcheck disable=SC2086  # two requirements, two words
  .venv/bin/python -m pip install --disable-pip-version-check --no-input $wanted && venv_works
}

complete_venv() {
  .venv/bin/python -m pip --version >/dev/null 2>&1 || return
  say "completing .venv with $wanted"
  install_into_venv
}

make_venv() {
  local python
  python=$(find_python) || exit 1
  say "making .venv with $wanted (a CPU build is about 200 MB, the CUDA build several GB)"
  rm -rf .venv
  "$python" -m venv .venv && install_into_venv
}

# The stamp is written last, so an interrupted installation is noticed. What cannot be completed is made anew.
prepare_venv() {
  if venv_is_ready; then return; fi
  venv_works || complete_venv || make_venv || fail "torch $torch_version could not be installed into .venv (see above).
Check the network and the space on the disk, and run the command again."
  echo "$wanted" >"$stamp" 2>/dev/null || true
}

# oneDNN gets a folder of its own, where the build looks for it: its headers and libraries are not meant for others.
prepare_peers() {
  if [ "$(cat "$bench_stamp" 2>/dev/null)" = "$bench_python $bench_onednn" ]; then return; fi
  say "installing $bench_python into .venv, and $bench_onednn into .venv/peers"
  # shellcheck disable=SC2086  # several requirements, several words
  {
    .venv/bin/python -m pip install --disable-pip-version-check --no-input --upgrade-strategy only-if-needed \
      $bench_python &&
      .venv/bin/python -m pip install --disable-pip-version-check --no-input --ignore-installed \
        --prefix .venv/peers/onednn $bench_onednn
  } || fail "the libraries to compare with could not be installed (see above); the benchmark runs without them"
  echo "$bench_python $bench_onednn" >"$bench_stamp"
}

case "${1-}" in
  "")
    install_packages "${build_packages[@]}"
    prepare_venv
    say "everything needed is installed"
    ;;
  lint) install_packages "${lint_packages[@]}" ;;
  bench)
    install_packages "${build_packages[@]}" "${bench_packages[@]}"
    prepare_venv
    prepare_peers
    say "all libraries to compare with are installed"
    ;;
  *) fail "unknown argument '$1'; use nothing, lint or bench" ;;
esac
