"""Times the bf16 product of `kernels/src/gemm.cu` beside torch's (cuBLAS), and compares its results with a product in float32.

    python benches/peers/time_product.py        # from the repository's root; needs nvcc, a Hopper GPU and torch

The kernel is compiled by nvcc once for each epilogue and launched from here, a block on each SM. torch writes bf16 and has no epilogue, so that its time is
a floor of the products alone. A line a shape: microseconds and TFLOP/s of both, medians of five windows.
"""

import ctypes
import statistics
import subprocess
import tempfile
from pathlib import Path

import torch

KERNEL = Path(__file__).parents[2] / "kernels/src/gemm.cu"
THREADS = 384
CASES = [
    # epilogue, scaled, gated, m, n, k
    ("SCORES", 1, 0, 4096, 16384, 512),
    ("SCORES", 1, 0, 4096, 32768, 1024),
    ("ROWS", 0, 0, 8192, 3072, 1024),
    ("RESIDUAL", 0, 0, 8192, 1024, 1024),
    ("GELU", 0, 0, 8192, 4096, 1024),
    ("RESIDUAL", 0, 0, 8192, 1024, 4096),
    ("ROWS", 0, 0, 8192, 1536, 512),
    ("RESIDUAL", 0, 0, 8192, 512, 512),
    ("GELU", 0, 0, 8192, 2048, 512),
    ("RESIDUAL", 0, 0, 8192, 512, 2048),
    ("RESIDUAL", 0, 0, 65536, 1024, 4096),
    ("SILU", 0, 1, 8192, 16384, 2048),
    ("WIDE_ROWS", 0, 0, 8192, 3072, 6144),
    ("ROWS", 0, 0, 8192, 8192, 8192),
]

cuda = ctypes.CDLL("libcuda.so.1")


def checked(code):
    if code:
        raise SystemExit(f"CUDA error {code}")


class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in "mnk"]


def kernel(epilogue, scaled, gated, folder):
    cubin = folder / f"{epilogue}{scaled}{gated}.cubin"
    if not cubin.exists():
        defines = [f"-DEPILOGUE={epilogue}", f"-DSCALED={scaled}", f"-DGATED={gated}"]
        target = "-gencode=arch=compute_90a,code=sm_90a"
        subprocess.run(["nvcc", "-cubin", target, "-o", cubin, KERNEL, *defines], check=True)
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    checked(cuda.cuModuleLoad(ctypes.byref(module), str(cubin).encode()))
    checked(cuda.cuModuleGetFunction(ctypes.byref(function), module, b"gemm"))
    return function


def packed(x):
    """[rows, columns] in the order of the tensor cores: [tiles, chunks, 128, 8]."""
    rows, columns = x.shape
    padded = torch.zeros(-(-rows // 128) * 128, columns, dtype=x.dtype, device=x.device)
    padded[:rows] = x
    return padded.reshape(-1, 128, columns // 8, 8).permute(0, 2, 1, 3).contiguous()


def launcher(function, tensors, m, n, k):
    arguments = [ctypes.c_void_p(t.data_ptr()) for t in tensors] + [Info(m, n, k)]
    pointers = (ctypes.c_void_p * len(arguments))(*[ctypes.cast(ctypes.pointer(a), ctypes.c_void_p) for a in arguments])
    blocks = min(-(-m // 128) * -(-n // 128), torch.cuda.get_device_properties(0).multi_processor_count)
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)

    def launch():
        checked(cuda.cuLaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, stream, pointers, None))

    launch.keep = arguments
    return launch


def microseconds(launch, times):
    for _ in range(3):
        launch()
    windows = []
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(times):
            launch()
        end.record()
        end.synchronize()
        windows.append(start.elapsed_time(end) / times * 1e3)
    return statistics.median(windows)


def main():
    folder = Path(tempfile.mkdtemp())
    device = "cuda"
    for epilogue, scaled, gated, m, n, k in CASES:
        generator = torch.Generator(device).manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, device=device, generator=generator)
        a, b, bias = draw(m, k).bfloat16(), draw(n, k).bfloat16(), draw(n)
        extra = draw(m, n) if epilogue == "RESIDUAL" else torch.rand(n, device=device, generator=generator) + 0.5
        is_bf16 = epilogue not in ("SCORES", "RESIDUAL", "WIDE_ROWS", "PLAIN")
        width = n // 2 if gated else n
        out = torch.zeros(-(-m // 128) * 128 * width, device=device, dtype=torch.bfloat16 if is_bf16 else torch.float32)
        maxima = torch.zeros(m * -(-n // 32), device=device)
        function = kernel(epilogue, scaled, gated, folder)
        launch = launcher(function, [packed(a), packed(b), bias, extra, out, maxima], m, n, k)
        launch()
        if epilogue in ("SCORES", "RESIDUAL", "ROWS", "WIDE_ROWS"):
            rows = slice(0, 256)
            expected = a[rows].float() @ b.float().t() + bias
            if epilogue == "RESIDUAL":
                expected += extra[rows]
            found = out[: m * n].reshape(m, n)[rows].float()
            error = ((found - expected).abs().max() / expected.abs().max()).item()
            assert error < (5e-3 if is_bf16 else 1e-4), (epilogue, error)
        times = max(3, min(50, int(2e13 / (2 * m * n * k))))
        ours = microseconds(launch, times)
        plain = torch.empty(m, n, device=device, dtype=torch.bfloat16)
        theirs = microseconds(lambda: torch.mm(a, b.t(), out=plain), times)
        flop = 2 * m * n * k
        print(f"{epilogue:9} {m} x {k} x {n}: {ours:.0f} us, {flop / ours / 1e6:.0f} TFLOP/s; torch {theirs:.0f} us, {flop / theirs / 1e6:.0f}", flush=True)


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = False
    main()
