// Second moments of rows about a point, added to what earlier rows left, in f64:
//
//   moments[i][j] += sum_t (x[t][i] - s[i]) * (x[t][j] - s[j])       for all j >= i, and some j < i that nobody reads
//
// x        f32 [rows, d]
// s        f64 [d]
// moments  f64 [d, d]
//
// One thread sums an element over all rows in their order and goes on from what is there, so that no bit depends on how rows are cut
// into batches.
//
// Launch: a block of 256 threads for each pair of stretches of TILE columns, the second not before the first: n (n + 1) / 2 blocks
// for n = ceil(d / TILE).

struct Info {
    unsigned long long rows, d;
};

constexpr int TILE = 64;
constexpr int DEPTH = 16;  // rows in shared memory at a time
constexpr int SIDE = 16;   // threads a side
constexpr int EACH = TILE / SIDE;

extern "C" __global__ void __launch_bounds__(SIDE * SIDE)
moments(const float* __restrict__ x, const double* __restrict__ s, double* __restrict__ out, const __grid_constant__ Info info) {
    __shared__ double left[DEPTH][TILE];
    __shared__ double right[DEPTH][TILE];
    const int d = static_cast<int>(info.d);
    const int n = (d + TILE - 1) / TILE;
    int first = 0, second = blockIdx.x;
    while (second >= n - first) {
        second -= n - first;
        ++first;
    }
    second += first;
    const int i0 = first * TILE, j0 = second * TILE;
    const int ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;

    double sums[EACH][EACH];
#pragma unroll
    for (int a = 0; a < EACH; ++a)
#pragma unroll
        for (int b = 0; b < EACH; ++b) {
            const int i = i0 + ty + a * SIDE, j = j0 + tx + b * SIDE;
            sums[a][b] = i < d && j < d ? out[static_cast<size_t>(i) * d + j] : 0.0;
        }

    for (unsigned long long t0 = 0; t0 < info.rows; t0 += DEPTH) {
        for (int at = threadIdx.x; at < DEPTH * TILE; at += SIDE * SIDE) {
            const int row = at / TILE, column = at % TILE;
            const unsigned long long t = t0 + row;
            const int i = i0 + column, j = j0 + column;
            // Rows behind the last add nothing.
            left[row][column] = t < info.rows && i < d ? static_cast<double>(x[t * d + i]) - s[i] : 0.0;
            right[row][column] = t < info.rows && j < d ? static_cast<double>(x[t * d + j]) - s[j] : 0.0;
        }
        __syncthreads();
#pragma unroll
        for (int row = 0; row < DEPTH; ++row) {
            double l[EACH], r[EACH];
#pragma unroll
            for (int a = 0; a < EACH; ++a) l[a] = left[row][ty + a * SIDE];
#pragma unroll
            for (int b = 0; b < EACH; ++b) r[b] = right[row][tx + b * SIDE];
#pragma unroll
            for (int a = 0; a < EACH; ++a)
#pragma unroll
                for (int b = 0; b < EACH; ++b) sums[a][b] += l[a] * r[b];
        }
        __syncthreads();
    }

#pragma unroll
    for (int a = 0; a < EACH; ++a)
#pragma unroll
        for (int b = 0; b < EACH; ++b) {
            const int i = i0 + ty + a * SIDE, j = j0 + tx + b * SIDE;
            if (i < d && j < d) out[static_cast<size_t>(i) * d + j] = sums[a][b];
        }
}
