// C = A·Bᵀ in bf16 with f32 accumulators, for Hopper (sm_90a), with an epilogue that finishes the job of the caller.
//
// A [m, k] and B [n, k] are "packed": element (r, c) lies at ((r/128 · k/8 + c/8) · 128 + r%128) · 8 + c%8, so that what one
// step of the main loop needs of 128 rows is contiguous, and already in the order in which the tensor core reads it (8 × 16
// byte "core matrices", no swizzle). One bulk copy brings it in; there is no tensor map and no address arithmetic per thread.
//
// One warpgroup computes a 128 × 128 tile in steps of 16 along k, five of them in flight. Shared memory is limited to the
// 48 KiB that a kernel may declare statically, so the start and the end of a tile are hidden by three blocks an SM.
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
#define DEPTH 16
#define STAGES 5
#define BAND 16
#define CHUNK_BYTES (TILE * 16)
#define HALF_STAGE (DEPTH / 8 * CHUNK_BYTES)
#define STAGE_BYTES (2 * HALF_STAGE)
#define BATCH 8    // rows that a warp finishes at a time
#define PITCH 136  // floats from one staged row to the next: free of bank conflicts
#define LOWEST __int_as_float(0xff800000)

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

// acc += A·Bᵀ for 64 × 128 × 16.
__device__ __forceinline__ void mma(float (&acc)[64], u64 a, u64 b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, 1, 1, 1, 0, 0;"
        : R16(acc, 0), R16(acc, 16), R16(acc, 32), R16(acc, 48)
        : "l"(a), "l"(b));
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
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
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

// Finishes the 16 rows of 64 that this warp holds: through its part of shared memory, so that global memory sees whole lines.
__device__ __forceinline__ void epilogue(float (&acc)[64], float* staged, u64 row, u64 column, const float* bias,
                                         const float* scale, const float* __restrict__ residual, void* __restrict__ out,
                                         float* __restrict__ maxima, const Info& info) {
    const u32 lane = threadIdx.x % 32;
#if EPILOGUE == SCORES
    // Of rows lane/4 and lane/4 + 8 a thread holds two neighbouring columns of every eight: the maxima are taken here, where the
    // four threads of a row need two exchanges for 32 columns.
    float best[2][4];
#pragma unroll
    for (int j = 0; j < 16; ++j) {
        const float2 b = *(const float2*)(bias + j * 8 + lane % 4 * 2);
        const bool inside = column + j * 8 < info.n;
#if SCALED
        const float2 s = *(const float2*)(scale + j * 8 + lane % 4 * 2);
#endif
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float& x = acc[j * 4 + half * 2];
            float& y = acc[j * 4 + half * 2 + 1];
            x += b.x;
            y += b.y;
#if SCALED
            const float m = fmaxf(x * s.x, y * s.y);
#else
            const float m = fmaxf(x, y);
#endif
            const float before = j % 4 == 0 ? LOWEST : best[half][j / 4];
            best[half][j / 4] = inside ? fmaxf(before, m) : before;
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int g = 0; g < 4; ++g) {
            float m = best[half][g];
            m = fmaxf(m, __shfl_xor_sync(0xffffffff, m, 1));
            m = fmaxf(m, __shfl_xor_sync(0xffffffff, m, 2));
            best[half][g] = m;
        }
        // Each of the four writes one of the four groups.
        const u32 g = lane % 4;
        const float m = g == 0 ? best[half][0] : g == 1 ? best[half][1] : g == 2 ? best[half][2] : best[half][3];
        const u64 r = row + lane / 4 + half * 8;
        if (r < info.m && column + g * 32 < info.n) maxima[r * ((info.n + 31) / 32) + column / 32 + g] = m;
    }
#endif
#if EPILOGUE >= GELU && GATED
    // A thread holds a gate and its value, two neighbouring columns of two rows of each: half as many columns are staged.
#pragma unroll
    for (int j = 0; j < 16; j += 2) {
        const float2 gate = *(const float2*)(bias + j * 8 + lane % 4 * 2);
        const float2 value = *(const float2*)(bias + j * 8 + 8 + lane % 4 * 2);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float* g = acc + j * 4 + half * 2;
            float* at = staged + (lane / 4 + half * 8) * PITCH + j * 4 + lane % 4 * 2;
            *(float2*)at = make_float2(activation(g[0] + gate.x) * (g[4] + value.x), activation(g[1] + gate.y) * (g[5] + value.y));
        }
    }
#else
#pragma unroll
    for (int j = 0; j < 16; ++j) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float* at = staged + (lane / 4 + half * 8) * PITCH + j * 8 + lane % 4 * 2;
            *(float2*)at = make_float2(acc[j * 4 + half * 2], acc[j * 4 + half * 2 + 1]);
        }
    }
#endif
    __syncwarp();
#if EPILOGUE >= GELU && GATED
    const u64 r = row + lane % 16;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const u32 c = (i * 2 + lane / 16) * 8;
        const float* from = staged + lane % 16 * PITCH + c;
        const float4 low = *(const float4*)from, high = *(const float4*)(from + 4);
        if (r < info.m && column + 2 * c < info.n) {
            ((uint4*)out)[(r / TILE * (info.n / 16) + (column / 2 + c) / 8) * TILE + r % TILE] =
                make_uint4(bf16_pair(low.x, low.y), bf16_pair(low.z, low.w), bf16_pair(high.x, high.y), bf16_pair(high.z, high.w));
        }
    }
#elif EPILOGUE >= GELU
    const u64 r = row + lane % 16;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const u32 c = (i * 2 + lane / 16) * 8;
        const float* from = staged + lane % 16 * PITCH + c;
        const float4 low = *(const float4*)from + *(const float4*)(bias + c);
        const float4 high = *(const float4*)(from + 4) + *(const float4*)(bias + c + 4);
        if (r < info.m && column + c < info.n) {
            ((uint4*)out)[(r / TILE * (info.n / 8) + (column + c) / 8) * TILE + r % TILE] =
                make_uint4(bf16_pair(activation(low.x), activation(low.y)), bf16_pair(activation(low.z), activation(low.w)),
                           bf16_pair(activation(high.x), activation(high.y)), bf16_pair(activation(high.z), activation(high.w)));
        }
    }
#else
    const u64 c = column + lane * 4;
    const bool inside = c < info.n;
#if EPILOGUE == ROWS || EPILOGUE == WIDE_ROWS || EPILOGUE == RESIDUAL
    const float4 b = *(const float4*)(bias + lane * 4);
#endif
    // Whole batches of loads are under way before the first of their rows is stored.
#pragma unroll 1
    for (int first = 0; first < 16; first += BATCH) {
#if EPILOGUE == RESIDUAL
        float4 before[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; ++i) {
            const u64 r = row + first + i;
            if (inside && r < info.m) before[i] = *(const float4*)(residual + r * info.n + c);
        }
#endif
#pragma unroll
        for (int i = 0; i < BATCH; ++i) {
            const u64 r = row + first + i;
            float4 v = *(const float4*)(staged + (first + i) * PITCH + lane * 4);
#if EPILOGUE == ROWS || EPILOGUE == WIDE_ROWS || EPILOGUE == RESIDUAL
            v = v + b;
#endif
            if (!inside || r >= info.m) continue;
#if EPILOGUE == ROWS
            *(uint2*)((char*)out + (r * info.n + c) * 2) = make_uint2(bf16_pair(v.x, v.y), bf16_pair(v.z, v.w));
#elif EPILOGUE == RESIDUAL
            store((float*)out + r * info.n + c, v + before[i]);
#elif EPILOGUE == WIDE_ROWS
            store((float*)out + r * info.n + c, v);
#else
            __stcs((float4*)((float*)out + r * info.n + c), v);  // read once, later: it need not displace the operands
#endif
        }
    }
#endif
    __syncwarp();
}

// `extra` is the scale [n] of SCORES or the residual [m, n] of RESIDUAL. Grid: ceil(m/128)·ceil(n/128) blocks of 128 threads. They
// start band by band of BAND tiles of rows (up to twice as many make one), in a band column by column, so that what is read at one
// time, the band's rows and a few tiles of columns, stays in the second-level cache.
extern "C" __global__ void __launch_bounds__(128, 3)
gemm(const char* __restrict__ a, const char* __restrict__ b, const float* __restrict__ bias, const float* __restrict__ extra,
     void* __restrict__ out, float* __restrict__ maxima, const __grid_constant__ Info info) {
    __shared__ alignas(1024) char stages[STAGES * STAGE_BYTES];
    __shared__ alignas(16) float bias_tile[TILE], scale_tile[TILE];
    __shared__ alignas(8) u64 full[STAGES], empty[STAGES];

    const u32 tiles_m = (u32)((info.m + TILE - 1) / TILE), tiles_n = gridDim.x / tiles_m;
    const u32 most = tiles_m <= 2 * BAND ? tiles_m : BAND;
    const u32 band = blockIdx.x / (most * tiles_n), in_band = blockIdx.x % (most * tiles_n);
    const u32 height = min(most, tiles_m - band * most);
    const u64 tile_m = band * most + in_band % height, tile_n = in_band / height;
    const u32 steps = (u32)(info.k / DEPTH);
    const u32 base = smem_address(stages), full0 = smem_address(full), empty0 = smem_address(empty);
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const char* from_a = a + tile_m * (info.k / 8) * CHUNK_BYTES;
    const char* from_b = b + tile_n * (info.k / 8) * CHUNK_BYTES;

    auto load = [&](u32 step) {
        const u32 s = step % STAGES, to = base + s * STAGE_BYTES, barrier = full0 + 8 * s;
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "n"(STAGE_BYTES) : "memory");
        bulk_copy(to, from_a + (u64)step * HALF_STAGE, HALF_STAGE, barrier);
        bulk_copy(to + HALF_STAGE, from_b + (u64)step * HALF_STAGE, HALF_STAGE, barrier);
    };
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(full0 + 8 * s) : "memory");
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 4;" ::"r"(empty0 + 8 * s) : "memory");
        }
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        for (u32 step = 0; step < STAGES && step < steps; ++step) load(step);
    }
    {
        const u64 c = tile_n * TILE + threadIdx.x;
#if EPILOGUE != PLAIN
        bias_tile[threadIdx.x] = c < info.n ? bias[c] : 0.0f;
#endif
#if EPILOGUE == SCORES && SCALED
        scale_tile[threadIdx.x] = c < info.n ? extra[c] : 1.0f;
#endif
    }
    __syncthreads();

    float acc0[64], acc1[64];
#pragma unroll
    for (int i = 0; i < 64; ++i) acc0[i] = acc1[i] = 0.0f;

    for (u32 step = 0; step < steps; ++step) {
        const u32 s = step % STAGES;
        wait(full0 + 8 * s, step / STAGES & 1);
        const u32 at = base + s * STAGE_BYTES;
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        mma(acc0, descriptor(at), descriptor(at + HALF_STAGE));
        mma(acc1, descriptor(at + 64 * 16), descriptor(at + HALF_STAGE));
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        // The previous step's products are done when only this one's are outstanding: its stage is free.
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
        if (step > 0) {
            const u32 previous = step - 1, slot = empty0 + 8 * (previous % STAGES);
            if (lane == 0) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(slot) : "memory");
            if (threadIdx.x == 0 && previous + STAGES < steps) {
                wait(slot, previous / STAGES & 1);
                load(previous + STAGES);
            }
            __syncwarp();
        }
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
    for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(acc0[i]), "+f"(acc1[i])::"memory");
    __syncthreads();  // no warp may overwrite a stage that another's products still read

    float* staged = (float*)stages + warp * 16 * PITCH;
    const u64 row = tile_m * TILE + warp * 16, column = tile_n * TILE;
    epilogue(acc0, staged, row, column, bias_tile, scale_tile, extra, out, maxima, info);
    epilogue(acc1, staged, row + 64, column, bias_tile, scale_tile, extra, out, maxima, info);
}
