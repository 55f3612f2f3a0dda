#!/usr/bin/env bash
# A part of the tests, one for each library that is depended on, with other versions than those of constraints.txt.
#
#   scripts/lane.sh lowest [ARGUMENTS OF PYTEST …]    the lowest versions that pyproject.toml allows, on the oldest Python
#   scripts/lane.sh newest [ARGUMENTS OF PYTEST …]    the newest of the package index, on the newest Python of this machine
#
# It makes .venv-lowest or .venv-newest, of several GB: torch comes with its libraries for GPUs.
set -euo pipefail
cd "$(dirname "$0")/.."
lane=${1:-}
[ "$lane" = lowest ] || [ "$lane" = newest ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
shift
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1

# A folder of tests for each library: the rest of the suite asks them for nothing else.
tests=(
  tests/test_config.py tests/test_settings.py tests/test_arms.py tests/test_fields.py # pydantic
  tests/test_registry.py tests/test_limits.py
  tests/test_runs.py tests/test_comparisons.py tests/test_formats.py # torch's files, numpy's, and those of other versions
  tests/test_paths.py tests/datasets                                 # platformdirs, pooch, numpy
  tests/test_processor.py tests/test_devices.py # torch
  tests/model/test_{adam,batched,bvae,convolutions,likelihoods,networks,objective,relaxation,terms}.py
  tests/model/test_whole.py::test_a_batch_of_another_shape_is_taken_as_it_is # its compiler, which takes long
  tests/model/test_whole.py::test_more_shapes_than_torch_keeps_of_a_function_are_compiled_all
  tests/evaluation                                                   # scipy
  tests/report/test_page.py tests/report/test_figures.py             # matplotlib, jinja2
  tests/cli/test_app.py tests/cli/test_train.py tests/cli/test_sample.py tests/cli/test_evaluate.py tests/cli/test_encode.py
  tests/cli/test_plot.py tests/cli/test_runs.py tests/cli/test_render.py tests/cli/test_progress.py # typer, rich
  tests/exporting tests/test_safetensors_files.py tests/workflows/test_export.py # onnx, onnxruntime, safetensors
  tests/retrieval tests/test_code_rows.py # numpy 1.26 cannot count bits
  tests/workflows/test_steps.py tests/workflows/test_api.py tests/workflows/test_tensorboard.py
)

# Say which interpreter a lane takes: those of the PATH, and those that pyenv keeps.
interpreters() { # one line each, `3.12 /path/to/python3.12`, the oldest first
  local minor found
  for minor in 11 12 13 14 15; do
    for found in $(type -ap "python3.$minor") "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
      # A shim of pyenv is there for versions that are not active, too.
      if "$found" -c "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null; then
        echo "3.$minor $found"
        break
      fi
    done
  done
}
if [ "$lane" = lowest ]; then
  read -r version python < <(interpreters | head -n 1) || { echo 'There is no Python from 3.11 on.'; exit 1; }
  [ "$version" = 3.11 ] || echo "There is no Python 3.11 on this machine: the lowest lane runs on $version."
  wanted=(-c constraints-lowest.txt)
else
  read -r version python < <(interpreters | tail -n 1) || { echo 'There is no Python from 3.11 on.'; exit 1; }
  [ "$version" != 3.11 ] || echo 'There is no Python after 3.11 on this machine: the newest lane runs on it.'
  wanted=(--upgrade --upgrade-strategy eager)
  # A machine may cap what pip installs: this lane is about what the index has.
  export PIP_CONSTRAINT=/dev/null
fi

venv=.venv-$lane
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/pip" install -q --no-cache-dir "${wanted[@]}" -e '.[test,tensorboard,onnx,safetensors]'
"$venv/bin/python" scripts/versions.py
TESTS_NEED_TENSORBOARD=1 "$venv/bin/pytest" -q -n 2 -m 'not slow' "$@" "${tests[@]}"
