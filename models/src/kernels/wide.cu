// Elementwise work of a decoder in f32, in one pass each over what Burn's operations read several times.
//
// NORM  out[r][c] = (x[r][c] - mean) / sqrt(var + eps) * gain[c] + bias[c],   var biased     (LAYER 1; without BIASED no bias)
//       out[r][c] = x[r][c] / sqrt(mean of x[r]^2 + eps) * gain[c]                           (LAYER 0)
//       x, out f32 [rows, d]; gain, bias f32 [d]. A warp a row.
// GELU  out[i] = 0.5 x[i] (1 + erf(x[i] / sqrt 2));  x, out f32 [rows] elements. A thread an element.
//
// Defined by the launcher: NORM, with LAYER and BIASED, or GELU. Launch: blocks of 256 threads.

struct Info {
    unsigned long long rows, d, eps;  // eps: the bits of an f32
};

#if defined(NORM)
__device__ __forceinline__ float over_warp(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffff, x, distance);
    return x;
}

extern "C" __global__ void __launch_bounds__(256)
wide(const float* __restrict__ x, const float* __restrict__ gain, const float* __restrict__ bias, float* __restrict__ out,
     const __grid_constant__ Info info) {
    const size_t row = static_cast<size_t>(blockIdx.x) * 8 + threadIdx.x / 32;
    if (row >= info.rows) return;
    const int d = static_cast<int>(info.d), lane = threadIdx.x % 32;
    const float* from = x + row * d;
    float* to = out + row * d;
    const float eps = __uint_as_float(static_cast<unsigned>(info.eps));
    float mean = 0.0f;
#if LAYER
    for (int c = lane; c < d; c += 32) mean += from[c];
    mean = over_warp(mean) / d;
#endif
    float square = 0.0f;
    for (int c = lane; c < d; c += 32) square += (from[c] - mean) * (from[c] - mean);
    const float deviation = sqrtf(over_warp(square) / d + eps);
    for (int c = lane; c < d; c += 32) {
        float value = (from[c] - mean) / deviation * gain[c];
#if BIASED
        value += bias[c];
#endif
        to[c] = value;
    }
}
#elif defined(GELU)
extern "C" __global__ void __launch_bounds__(256)
wide(const float* __restrict__ x, float* __restrict__ out, const __grid_constant__ Info info) {
    const size_t at = static_cast<size_t>(blockIdx.x) * 256 + threadIdx.x;
    if (at < info.rows) out[at] = 0.5f * x[at] * (1.0f + erff(x[at] * 0.70710678118654752f));
}
#endif
