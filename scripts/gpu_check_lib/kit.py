"""scripts/gpu_kit: headers and libraries of other projects, for a machine that has none of them.

Neither glibc nor libstdc++ is among them: what the kit links must run on a newer system than this one, which those
two promise and their copies would not.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile

import stages

INCLUDE = "/usr/include"
ARCH = "x86_64-linux-gnu"
LIB = f"/usr/lib/{ARCH}"
# Whose headers: everything else below /usr/include is the C library's or the compiler's.
PROJECTS = ("boost", "fmt", "openssl", "gtest", "zlib.h", "zconf.h")
# Headers that another version of the compiler may include where this one does not.
WHOLE = ("boost/config", "boost/predef", "boost/version.hpp")
STATIC = ("libboost_json.a", "libboost_container.a", "libboost_context.a", "libz.a", "libgtest.a", "libgtest_main.a")
SHARED = ("libfmt.so.9", "libcrypto.so.3")  # of which Debian has no archive, or a very large one

# find_package(name): what it defines. {kit} is the folder of the kit.
CMAKE = {
    "fmt": """
add_library(fmt::fmt SHARED IMPORTED)
set_target_properties(fmt::fmt PROPERTIES IMPORTED_LOCATION {kit}/lib/libfmt.so.9 IMPORTED_SONAME libfmt.so.9
  INTERFACE_COMPILE_DEFINITIONS FMT_SHARED INTERFACE_INCLUDE_DIRECTORIES {kit}/include)
""",
    "Boost": """
add_library(Boost::headers INTERFACE IMPORTED)
set_target_properties(Boost::headers PROPERTIES INTERFACE_INCLUDE_DIRECTORIES {kit}/include)
foreach(name container json context)
  add_library(Boost::${{name}} STATIC IMPORTED)
  set_target_properties(Boost::${{name}} PROPERTIES IMPORTED_LOCATION {kit}/lib/libboost_${{name}}.a
    INTERFACE_LINK_LIBRARIES Boost::headers)
  set(Boost_${{name}}_FOUND TRUE)
endforeach()
set_property(TARGET Boost::json APPEND PROPERTY INTERFACE_LINK_LIBRARIES Boost::container)
""",
    "OpenSSL": """
add_library(OpenSSL::Crypto SHARED IMPORTED)
set_target_properties(OpenSSL::Crypto PROPERTIES IMPORTED_LOCATION {kit}/lib/libcrypto.so.3
  IMPORTED_SONAME libcrypto.so.3 INTERFACE_INCLUDE_DIRECTORIES {kit}/include)
set(OpenSSL_Crypto_FOUND TRUE)
""",
    "ZLIB": """
add_library(ZLIB::ZLIB STATIC IMPORTED)
set_target_properties(ZLIB::ZLIB PROPERTIES IMPORTED_LOCATION {kit}/lib/libz.a
  INTERFACE_INCLUDE_DIRECTORIES {kit}/include)
""",
    "GTest": """
find_package(Threads REQUIRED)
add_library(GTest::gtest STATIC IMPORTED)
set_target_properties(GTest::gtest PROPERTIES IMPORTED_LOCATION {kit}/lib/libgtest.a
  INTERFACE_LINK_LIBRARIES Threads::Threads INTERFACE_INCLUDE_DIRECTORIES {kit}/include)
add_library(GTest::gtest_main STATIC IMPORTED)
set_target_properties(GTest::gtest_main PROPERTIES IMPORTED_LOCATION {kit}/lib/libgtest_main.a
  INTERFACE_LINK_LIBRARIES GTest::gtest)
""",
}
# Packages are found twice where two folders ask for them.
ONCE = "if(TARGET {target})\n  return()\nendif()\nget_filename_component(kit ${{CMAKE_CURRENT_LIST_DIR}}/../../.. ABSOLUTE)\n"
# What is packed is what this tree was written for.
VERSION = "set(PACKAGE_VERSION {version})\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n"


def included_headers(build):
    """The headers of PROJECTS that objects of the build folder were made from."""
    deps = subprocess.run(["ninja", "-C", build, "-t", "deps"], check=True, capture_output=True, text=True).stdout
    headers = set()
    for line in deps.splitlines():
        path = os.path.normpath(os.path.join(build, line.strip())) if line.startswith("    ") else ""
        path = re.sub(f"^{INCLUDE}/{ARCH}/", f"{INCLUDE}/", path)
        if path.startswith(INCLUDE + "/") and path[len(INCLUDE) + 1:].split("/")[0] in PROJECTS:
            headers.add(path[len(INCLUDE) + 1:])
    return headers


def whole_folders():
    for name in WHOLE:
        path = f"{INCLUDE}/{name}"
        if os.path.isfile(path):
            yield name
        for folder, _, files in os.walk(path):
            for file in files:
                yield os.path.relpath(os.path.join(folder, file), INCLUDE)


def copy(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(source, target)


def make(kit, build):
    shutil.rmtree(kit, ignore_errors=True)
    for header in sorted(included_headers(build) | set(whole_folders())):
        places = [f"{INCLUDE}/{ARCH}/{header}", f"{INCLUDE}/{header}"]
        copy(next(place for place in places if os.path.exists(place)), f"{kit}/include/{header}")
    for library in STATIC + SHARED:
        copy(f"{LIB}/{library}", f"{kit}/lib/{library}")
        subprocess.run(["strip", "--strip-debug", f"{kit}/lib/{library}"], check=True)
    with open(f"{INCLUDE}/boost/version.hpp", encoding="utf-8") as file:
        boost = re.search(r'BOOST_LIB_VERSION "([0-9_]+)"', file.read()).group(1).replace("_", ".") + ".0"
    for name, text in CMAKE.items():
        folder = f"{kit}/lib/cmake/{name}"
        os.makedirs(folder)
        target = re.search(r"add_library\((\S+)", text).group(1)
        with open(f"{folder}/{name}Config.cmake", "w", encoding="utf-8") as file:
            file.write(ONCE.format(target=target) + text.format(kit="${kit}"))
        with open(f"{folder}/{name}ConfigVersion.cmake", "w", encoding="utf-8") as file:
            file.write(VERSION.format(version=boost if name == "Boost" else "1000"))


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/gpu_kit", description=__doc__)
    parser.add_argument("--out", default="build/gpu_kit.tar.xz")
    out = parser.parse_args(arguments).out
    # Built once here, so that the headers are those that the compiler has seen.
    targets = [name for name in stages.TARGETS if name not in stages.CUDA_TARGETS or shutil.which("nvcc")]
    for command in (["cmake", "--preset", "gpu"], ["cmake", "--build", stages.BUILD, "--target", *targets]):
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            sys.exit("gpu_kit: the targets of scripts/gpu_check do not build here")
    folder = re.sub(r"\.tar\.xz$", "", out)
    make(folder, stages.BUILD)
    with tarfile.open(out, "w:xz") as archive:
        archive.add(folder, arcname=".")
    unpacked = sum(os.path.getsize(os.path.join(path, file)) for path, _, files in os.walk(folder) for file in files)
    shutil.rmtree(folder)
    print(f"{out}: {os.path.getsize(out) / 1e6:.1f} MB, {unpacked / 1e6:.1f} MB unpacked")


if __name__ == "__main__":
    main(sys.argv[1:])
