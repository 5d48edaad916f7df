"""What this machine has: GPU, compilers, CUDA's libraries, Python packages; and what CMake must be told of it."""

import glob
import importlib.metadata
import importlib.util
import os
import shutil
import site
import sys
import tarfile

CUDA_FOLDERS = ("/usr/local/cuda", "/opt/cuda")


def look(run, hide_gpu):
    facts = {"gpus": [], "python": sys.version.split()[0]}
    facts["gpus"], facts["no_gpu"] = _gpus(run, hide_gpu)
    facts["nvcc"] = _tool("nvcc")
    facts["compute_sanitizer"] = _tool("compute-sanitizer")
    facts["cuda"] = _version_line(run, [facts["nvcc"], "--version"], "release") if facts["nvcc"] else ""
    for name, command in (("cmake", ["cmake", "--version"]), ("ninja", ["ninja", "--version"]),
                          ("compiler", ["c++", "--version"])):
        facts[name] = _version_line(run, command) if shutil.which(command[0]) else ""
    facts["cublaslt"] = library("libcublasLt.so*")
    facts["nccl"] = library("libnccl.so*")
    facts["torch"] = _python_package("torch")
    facts["transformers"] = _python_package("transformers")
    facts["cores"] = os.cpu_count()
    return facts


def _gpus(run, hide_gpu):
    if hide_gpu:
        return [], "the GPU is hidden (--hide-gpu)"
    smi = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/local/nvidia/bin")
    if not smi:
        return [], "there is no NVIDIA driver on this machine (no nvidia-smi)"
    ended = run([smi, "--query-gpu=name,memory.total,compute_cap,driver_version", "--format=csv,noheader"], 15)
    gpus = []
    for line in ended.lines:
        parts = [part.strip() for part in line.split(",")]
        if ended.code == 0 and len(parts) == 4:
            gpus.append(dict(zip(("name", "memory", "capability", "driver"), parts)))
    return gpus, "" if gpus else f"nvidia-smi finds no GPU: {ended.last()}"


def _tool(name):
    found = shutil.which(name)
    for folder in CUDA_FOLDERS:
        found = found or shutil.which(name, path=f"{folder}/bin:{folder}/compute-sanitizer")
    return found or ""


def _version_line(run, command, word=""):
    lines = [line for line in run(command, 15).lines if word in line and line.strip()]
    return lines[0].strip() if lines else ""


def _python_package(name):
    if importlib.util.find_spec(name) is None:
        return ""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _package_folders():
    return [folder for folder in dict.fromkeys(site.getsitepackages() + [site.getusersitepackages()] + sys.path)
            if os.path.isdir(os.path.join(folder, "nvidia"))]


def library(pattern, more=()):
    """The newest file of that name in CUDA's folder, `more`, the system's, or NVIDIA's Python packages."""
    places = [f"{cuda}/{lib}" for cuda in CUDA_FOLDERS for lib in ("lib64", "targets/x86_64-linux/lib", "lib")]
    places += [*more, "/usr/lib/x86_64-linux-gnu", "/usr/lib64"]
    places += [f"{folder}/nvidia/*/lib" for folder in _package_folders()]
    for place in places:
        found = sorted(glob.glob(f"{place}/{pattern}"), key=len)
        if found:
            return found[-1]
    return ""


def cublas_flags(facts, overlay):
    """CMake finds cuBLAS beside nvcc. Where it is only in a Python package, a folder of links stands in for it."""
    library = facts["cublaslt"]
    headers = [f"{os.path.dirname(os.path.dirname(facts['nvcc']))}/include", "/usr/local/cuda/include"]
    if any(library.startswith(cuda) for cuda in CUDA_FOLDERS) and any(
            os.path.exists(f"{folder}/cublasLt.h") for folder in headers):
        return []
    shutil.rmtree(overlay, ignore_errors=True)
    os.makedirs(f"{overlay}/lib")
    for file in glob.glob(os.path.join(os.path.dirname(library), "libcublas*.so*")):
        name = os.path.basename(file)
        os.symlink(file, f"{overlay}/lib/{name}")
        plain = name.split(".so")[0] + ".so"
        if not os.path.lexists(f"{overlay}/lib/{plain}"):
            os.symlink(file, f"{overlay}/lib/{plain}")
    include = os.path.join(os.path.dirname(os.path.dirname(library)), "include")
    os.makedirs(f"{overlay}/include")
    for file in glob.glob(f"{include}/cublas*.h"):
        os.symlink(file, f"{overlay}/include/{os.path.basename(file)}")
    whole = os.path.abspath(overlay)
    return [f"-DCMAKE_LIBRARY_PATH={whole}/lib", f"-DCMAKE_CXX_FLAGS=-idirafter {whole}/include",
            f"-DCMAKE_CUDA_FLAGS=-Xcompiler -idirafter,{whole}/include"]


def architecture(gpu):
    """With the instructions of that one architecture (90a: wgmma), which every GPU since Hopper has."""
    number = int(gpu["capability"].replace(".", ""))
    return f"{number}a-real" if number >= 90 else f"{number}-real"


def find_kit(kit):
    """The kit to use, or "" where there is none: then the system's packages must do."""
    return kit or next((path for path in ("build/gpu_kit.tar.xz", "build/gpu_kit") if os.path.exists(path)), "")


def unpack_kit(kit):
    """Its folder."""
    if os.path.isdir(kit):
        return kit
    folder = "build/gpu_kit"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(kit, "r:xz") as archive:  # not every bare machine has the program xz
        archive.extractall(folder, filter="data")
    return folder
