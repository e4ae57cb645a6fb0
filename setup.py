"""What setup.cfg cannot say: the optional C++ kernels, and configs/ installed as the package `popularity.configs`.

One extension for each instruction set, from one source. All are optional: without a compiler, or with one that does not
know the options, the installation continues without them.
"""

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

SOURCE = "popularity/models/kernels"
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"]
OPENMP = ["-fopenmp"] if sys.platform == "linux" else []  # compilers elsewhere lack it: one thread
SETS = {"portable": []}
if platform.machine() in ("x86_64", "AMD64"):
    SETS["avx2"] = ["-march=x86-64-v3"]
    SETS["avx512"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

extensions = [
    Extension(
        f"popularity.models._scan_{name}",
        [f"{SOURCE}/scan.cpp"],
        depends=[str(header) for header in sorted(Path(SOURCE).glob("*.h"))],
        extra_compile_args=[*FLAGS, *OPENMP, *options],
        extra_link_args=OPENMP,
        optional=True,
    )
    for name, options in SETS.items()
    if os.name == "posix"  # the kernels are written in GCC's and Clang's vector extensions
]

setup(
    packages=[*find_packages(include=["popularity*"]), "popularity.configs"],
    package_dir={"popularity.configs": "configs"},
    ext_modules=extensions,
)
