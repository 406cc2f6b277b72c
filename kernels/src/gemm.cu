// C = A·Bᵀ in bf16 with f32 accumulators, for Hopper (sm_90a), with an epilogue that finishes the job of the caller.
//
// A [m, k] and B [n, k] are "packed": element (r, c) lies at ((r/128 · k/8 + c/8) · 128 + r%128) · 8 + c%8, so that what one
// step of the main loop needs of 128 rows is contiguous, and already in the order in which the tensor core reads it (8 × 16
// byte "core matrices", no swizzle). One bulk copy brings it in; there is no tensor map and no address arithmetic per thread.
//
// A block stays on its SM and takes one 128 × 128 tile after another. One thread of its first warpgroup brings in the operands, 64 of k
// a step, up to four steps ahead, over the ends of tiles. The other two warpgroups take turns: while one multiplies, at the full rate of the
// tensor cores, the other finishes its tile. So an epilogue costs nothing as long as it takes no longer than a tile's products; it runs
// with one warp on each scheduler, which is why its instructions are counted.
//
// EPILOGUE, set before this text, is one of
//   SCORES    pre = C + bias in f32 [m, n] row-major, and the largest pre·scale of every 32 columns, [m, ceil(n/32)]
//             (with SCALED 0 there is no scale: the largest pre)
//   ROWS      C + bias in bf16, [m, n] row-major
//   WIDE_ROWS the same in f32
//   GELU, GELU_TANH, RELU, SILU
//             that function of C + bias in bf16, packed; with GATED 1, where of every 16 columns the first 8 are gates and the
//             others values, function(gate)·value, packed, n/2 columns
//   RESIDUAL  C + bias + residual in f32, [m, n] row-major
//   PLAIN     C in f32, [m, n] row-major

#define SCORES 0
#define ROWS 1
#define RESIDUAL 2
#define PLAIN 3
#define WIDE_ROWS 4
#define GELU 5
#define GELU_TANH 6
#define RELU 7
#define SILU 8

typedef unsigned int u32;
typedef unsigned long long u64;

struct Info {
    u64 m, n, k;  // n a multiple of 8 (GATED 1: of 16), k of 16
};

#define TILE 128
#define DEPTH 64
#define BAND 16
#define CHUNK_BYTES (TILE * 16)
#define HALF_STAGE (DEPTH / 8 * CHUNK_BYTES)
#define STAGE_BYTES (2 * HALF_STAGE)
// From one staged row to the next, floats or bf16 values: free of bank conflicts.
#define PITCH 136
// What is staged: f32, or bf16 where the output is.
#define NARROW (EPILOGUE == ROWS || EPILOGUE >= GELU)
#define STAGES 4
#define STAGED_BYTES (16 * PITCH * (NARROW ? 2 : 4))
#define LOWEST __int_as_float(0xff800000)
#define NOT_A_NUMBER __int_as_float(0x7fffffff)

__device__ __forceinline__ u32 smem_address(const void* p) {
    return (u32)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra finished;\n"
        "bra again;\n"
        "finished:\n}\n" ::"r"(barrier), "r"(parity) : "memory");
}

__device__ __forceinline__ void bulk_copy(u32 to, const void* from, u32 bytes, u32 barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
        "r"(bytes), "r"(barrier) : "memory");
}

// Matrix descriptor of a K-major operand without swizzle: 2048 bytes from one 8-wide chunk of k to the next, 128 from one group of
// 8 rows to the next.
__device__ __forceinline__ u64 descriptor(u32 address) {
    return (u64)((address & 0x3FFFF) >> 4) | ((u64)(CHUNK_BYTES >> 4) << 16) | ((u64)(128 >> 4) << 32);
}

#define R4(a, i) "+f"(a[i]), "+f"(a[i + 1]), "+f"(a[i + 2]), "+f"(a[i + 3])
#define R16(a, i) R4(a, i), R4(a, i + 4), R4(a, i + 8), R4(a, i + 12)

// acc[FIRST..] = A·Bᵀ for 64 × 128 × 16, added to what was there unless `first`.
template <int FIRST>
__device__ __forceinline__ void mma(float (&acc)[128], u64 a, u64 b, bool first) {
    asm volatile(
        "{\n.reg .pred add;\nsetp.eq.u32 add, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, add, 1, 1, 0, 0;\n}\n"
        : R16(acc, FIRST), R16(acc, FIRST + 16), R16(acc, FIRST + 32), R16(acc, FIRST + 48)
        : "l"(a), "l"(b), "r"((u32)first));
}

// x·σ(y); where e^-y overflows, the quotient is 0.
__device__ __forceinline__ float times_sigmoid(float x, float y) {
    return __fdividef(x, 1.0f + __expf(-y));
}

__device__ __forceinline__ float activation(float x) {
#if EPILOGUE == GELU_TANH
    // (1 + tanh u)/2 = σ(2u)
    return times_sigmoid(x, 1.5957691f * (x + 0.044715f * x * x * x));
#elif EPILOGUE == SILU
    return times_sigmoid(x, x);
#elif EPILOGUE == RELU
    return fmaxf(x, 0.0f);
#else
    // Φ(-|x|) = erfc(|x|/√2)/2 by Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 7.1.26: off by 8e-8 at most, and
    // relatively small where it is small; the result is rounded to bf16. erff takes three times as many instructions.
    const float y = fabsf(x) * 0.70710678f, t = __fdividef(1.0f, 1.0f + 0.3275911f * y);
    const float p = t * (0.127414796f + t * (-0.142248368f + t * (0.7107068705f + t * (-0.7265760135f + t * 0.5307027145f))));
    const float tail = x * p * __expf(-y * y);
    return x < 0.0f ? tail : x - tail;
#endif
}

// Two floats as two bf16, the first in the low half.
__device__ __forceinline__ u32 bf16_pair(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// An assignment would store four times 4 bytes.
__device__ __forceinline__ void store(float* to, float4 v) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w));
}

// Finishes 16 rows that this warp holds, from `acc[FIRST]`: through its part of shared memory, so that global memory sees whole lines.
// `rows` of them exist, and `columns` of the tile's; `bias` and `scale` are the tile's.
template <int FIRST>
__device__ __forceinline__ void epilogue(float (&acc)[128], char* staged, u64 row, u64 column, int rows, int columns, const float* bias,
                                         const float* scale, const float* __restrict__ residual, void* __restrict__ out,
                                         float* __restrict__ maxima, u64 n) {
    const u32 lane = threadIdx.x % 32, quad = lane / 4, q = lane % 4;
#if EPILOGUE == RESIDUAL
    // All rows are on their way before the first is needed, half of them already here: there are registers for no more.
    const bool inside = (int)lane * 4 < columns;
    const float* from = residual + row * n + column + lane * 4;
    float4 before[16];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        if (i < rows && inside) before[i] = *(const float4*)(from + i * n);
    }
#endif
    // Of rows quad and quad + 8 a thread holds two neighbouring columns of every eight.
#if EPILOGUE == SCORES
    float best[2][4];
#pragma unroll
    for (int j = 0; j < 16; ++j) {
        const float2 b = *(const float2*)(bias + j * 8 + q * 2);
#if SCALED
        const float2 s = *(const float2*)(scale + j * 8 + q * 2);
#endif
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float& x = acc[FIRST + j * 4 + half * 2];
            float& y = acc[FIRST + j * 4 + half * 2 + 1];
            x += b.x;
            y += b.y;
#if SCALED
            const float m = fmaxf(x * s.x, y * s.y);
#else
            const float m = fmaxf(x, y);
#endif
            // Columns beyond the last have a bias that is not a number, which fmaxf passes over.
            best[half][j / 4] = fmaxf(j % 4 == 0 ? LOWEST : best[half][j / 4], m);
        }
    }
    // The four threads of a row exchange what they have of four groups, so that each ends with one.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const bool upper = q & 2, odd = q & 1;
        float two[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float mine = upper ? best[half][2 + i] : best[half][i], theirs = upper ? best[half][i] : best[half][2 + i];
            two[i] = fmaxf(mine, __shfl_xor_sync(0xffffffff, theirs, 2));
        }
        const float m = fmaxf(odd ? two[1] : two[0], __shfl_xor_sync(0xffffffff, odd ? two[0] : two[1], 1));
        const int r = (int)quad + half * 8;
        if (r < rows && (int)q * 32 < columns) maxima[(row + r) * ((n + 31) / 32) + column / 32 + q] = m;
    }
#endif
#if NARROW && EPILOGUE >= GELU && GATED
#pragma unroll
    for (int j = 0; j < 16; j += 2) {
        const float2 gate = *(const float2*)(bias + j * 8 + q * 2), value = *(const float2*)(bias + j * 8 + 8 + q * 2);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float* g = acc + FIRST + j * 4 + half * 2;
            *(u32*)(staged + ((quad + half * 8) * PITCH + j * 4 + q * 2) * 2) =
                bf16_pair(activation(g[0] + gate.x) * (g[4] + value.x), activation(g[1] + gate.y) * (g[5] + value.y));
        }
    }
#elif NARROW
#pragma unroll
    for (int j = 0; j < 16; ++j) {
        const float2 b = *(const float2*)(bias + j * 8 + q * 2);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float x = acc[FIRST + j * 4 + half * 2] + b.x, y = acc[FIRST + j * 4 + half * 2 + 1] + b.y;
            *(u32*)(staged + ((quad + half * 8) * PITCH + j * 8 + q * 2) * 2) =
#if EPILOGUE == ROWS
                bf16_pair(x, y);
#else
                bf16_pair(activation(x), activation(y));
#endif
        }
    }
#else
#pragma unroll
    for (int j = 0; j < 16; ++j) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            *(float2*)(staged + ((quad + half * 8) * PITCH + j * 8 + q * 2) * 4) =
                make_float2(acc[FIRST + j * 4 + half * 2], acc[FIRST + j * 4 + half * 2 + 1]);
        }
    }
#endif
    __syncwarp();
#if EPILOGUE == ROWS
    // 16 threads a row, 16 bytes each.
    const int c = lane % 16 * 8;
    char* to = (char*)out + ((row + lane / 16) * n + column + c) * 2;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int r = i * 2 + lane / 16;
        const uint4 v = *(const uint4*)(staged + (r * PITCH + c) * 2);
        if (r < rows && c < columns) *(uint4*)(to + i * 4 * n) = v;
    }
#elif NARROW
    // 16 threads a chunk of 8 columns, a row each.
    const int r = lane % 16, chunks = columns / (GATED ? 16 : 8);
    uint4* to = (uint4*)out + (row / TILE * (n / (GATED ? 16 : 8)) + column / (GATED ? 16 : 8) + lane / 16) * TILE + row % TILE + r;
#pragma unroll
    for (int i = 0; i < (GATED ? 4 : 8); ++i) {
        const int chunk = i * 2 + lane / 16;
        const uint4 v = *(const uint4*)(staged + (r * PITCH + chunk * 8) * 2);
        if (r < rows && chunk < chunks) to[i * 2 * TILE] = v;
    }
#else
#if EPILOGUE == RESIDUAL
#pragma unroll
    for (int i = 8; i < 16; ++i) {
        if (i < rows && inside) before[i] = *(const float4*)(from + i * n);
    }
#endif
    float* to = (float*)out + row * n + column + lane * 4;
#if EPILOGUE == WIDE_ROWS || EPILOGUE == RESIDUAL
    const float4 b = *(const float4*)(bias + lane * 4);
#endif
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        float4 v = *(const float4*)(staged + (i * PITCH + lane * 4) * 4);
#if EPILOGUE == WIDE_ROWS || EPILOGUE == RESIDUAL
        v = v + b;
#endif
        if (i >= rows || (int)lane * 4 >= columns) continue;
#if EPILOGUE == RESIDUAL
        store(to + i * n, v + before[i]);
#elif EPILOGUE == WIDE_ROWS
        store(to + i * n, v);
#else
        __stcs((float4*)(to + i * n), v);  // read once, later: it need not displace the operands
#endif
    }
#endif
    __syncwarp();
}

// `extra` is the scale [n] of SCORES or the residual [m, n] of RESIDUAL. Any grid of blocks of 384 threads: block b takes the tiles b,
// b + gridDim.x, ... in the order of their bands of BAND tiles of rows (up to twice as many make one), in a band column by column, so that
// what is read at one time, the band's rows and a few tiles of columns, stays in the second-level cache.
extern "C" __global__ void __launch_bounds__(384, 1)
gemm(const char* __restrict__ a, const char* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ extra,
     void* __restrict__ out, float* __restrict__ maxima, const __grid_constant__ Info info) {
    __shared__ alignas(1024) char stages[STAGES * STAGE_BYTES];
    __shared__ alignas(16) char staging[2][4][STAGED_BYTES];
    __shared__ alignas(16) float biases[2][TILE], scales[2][TILE];
    __shared__ alignas(8) u64 full[STAGES], empty[STAGES];

    const u32 tiles_m = (u32)((info.m + TILE - 1) / TILE), tiles_n = (u32)((info.n + TILE - 1) / TILE);
    const u32 tiles = tiles_m * tiles_n, steps = (u32)((info.k + DEPTH - 1) / DEPTH);
    const u32 base = smem_address(stages), full0 = smem_address(full), empty0 = smem_address(empty);
    // A tile's place among tiles.
    auto place = [&](u32 tile, u64& tile_m, u64& tile_n) {
        const u32 most = tiles_m <= 2 * BAND ? tiles_m : BAND;
        const u32 band = tile / (most * tiles_n), in_band = tile % (most * tiles_n);
        const u32 height = min(most, tiles_m - band * most);
        tile_m = band * most + in_band % height;
        tile_n = in_band / height;
    };
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(full0 + 8 * s) : "memory");
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 4;" ::"r"(empty0 + 8 * s) : "memory");
        }
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();

    if (threadIdx.x < 128) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x != 0) return;
        const u32 chunks = (u32)(info.k / 8);
        u32 count = 0;  // steps so far, over all tiles
        for (u32 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            u64 tile_m, tile_n;
            place(tile, tile_m, tile_n);
            const char* from_a = a + tile_m * chunks * CHUNK_BYTES;
            const char* from_b = b + tile_n * chunks * CHUNK_BYTES;
            for (u32 step = 0; step < steps; ++step, ++count) {
                const u32 s = count % STAGES, to = base + s * STAGE_BYTES, barrier = full0 + 8 * s;
                if (count >= STAGES) wait(empty0 + 8 * s, (count / STAGES - 1) & 1);
                const u32 bytes = min((u32)HALF_STAGE, (chunks - step * (DEPTH / 8)) * CHUNK_BYTES);
                asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(2 * bytes) : "memory");
                bulk_copy(to, from_a + (u64)step * HALF_STAGE, bytes, barrier);
                bulk_copy(to + HALF_STAGE, from_b + (u64)step * HALF_STAGE, bytes, barrier);
            }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        const u32 group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
        auto release = [&](u32 count) {
            if (lane == 0) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(empty0 + 8 * (count % STAGES)) : "memory");
        };
        float acc[128];
        auto multiply = [&](u32 at, u32 i, bool first) {
            const u64 da = descriptor(at + i * 2 * CHUNK_BYTES), db = descriptor(at + HALF_STAGE + i * 2 * CHUNK_BYTES);
            mma<0>(acc, da, db, first);
            mma<64>(acc, da + (64 * 16 >> 4), db, first);
        };
        // The two groups take turns: one multiplies while the other finishes its tile.
        u32 turn = group;
        for (u32 tile = blockIdx.x + group * gridDim.x; tile < tiles; tile += 2 * gridDim.x, turn += 2) {
            u64 tile_m, tile_n;
            place(tile, tile_m, tile_n);
            u32 count = turn * steps;
            const u64 row = tile_m * TILE + warp * 16, column = tile_n * TILE;
#if EPILOGUE != PLAIN
            // The barrier: a tile ago other warps still read what is overwritten here.
            const u64 c = column + threadIdx.x % TILE;
            asm volatile("bar.sync %0, 128;" ::"r"(3 + group) : "memory");
            biases[group][threadIdx.x % TILE] = c < info.n ? bias[c] : NOT_A_NUMBER;
#if EPILOGUE == SCORES && SCALED
            scales[group][threadIdx.x % TILE] = c < info.n ? extra[c] : 1.0f;
#endif
#endif
            if (turn > 0) asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory");
            const u32 whole = (u32)(info.k / DEPTH);
#pragma unroll 1
            for (u32 step = 0; step < whole; ++step, ++count) {
                const u32 s = count % STAGES, at = base + s * STAGE_BYTES;
                wait(full0 + 8 * s, count / STAGES & 1);
                asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
                for (u32 i = 0; i < DEPTH / 16; ++i) multiply(at, i, step == 0 && i == 0);
                asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                // The previous step's products are done when only this one's are outstanding: its stage is free.
                asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
                if (step > 0) release(count - 1);
            }
            if (whole < steps) {
                const u32 s = count % STAGES, at = base + s * STAGE_BYTES;
                wait(full0 + 8 * s, count / STAGES & 1);
#pragma unroll 1
                for (u32 i = 0; i < info.k % DEPTH / 16; ++i) {
                    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
                    multiply(at, i, whole == 0 && i == 0);
                    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                }
                if (whole > 0) {
                    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
                    release(count - 1);
                }
                ++count;
            }
            if (tile + gridDim.x < tiles) asm volatile("bar.arrive %0, 256;" ::"r"(2 - group) : "memory");
            asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
            for (int i = 0; i < 128; ++i) asm volatile("" : "+f"(acc[i])::"memory");
            release(count - 1);
#if EPILOGUE != PLAIN
            asm volatile("bar.sync %0, 128;" ::"r"(3 + group) : "memory");
#endif
            const int rows = (int)min(info.m - min(info.m, row), (u64)TILE), columns = (int)min(info.n - column, (u64)TILE);
            char* staged = staging[group][warp];
            epilogue<0>(acc, staged, row, column, rows, columns, biases[group], scales[group], extra, out, maxima, info.n);
            epilogue<64>(acc, staged, row + 64, column, rows - 64, columns, biases[group], scales[group], extra, out, maxima, info.n);
        }
    }
}
