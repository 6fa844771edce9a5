// What needs no kernels: files of arrays, and the device.
#include <cstdio>
#include <vector>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

#include "expect.hpp"

int main() {
  std::printf("shrinkwarp %s on %s\n", shrinkwarp::kVersion, shrinkwarp::Context::best().description().c_str());
  const std::vector<double> X = {1, 2, 3, 4, 5, 6};
  shrinkwarp::write_npy_rows("X.npy", shrinkwarp::MatrixView<const double>{X.data(), 3, 2, 3, {}});
  std::vector<double> back(6);
  shrinkwarp::NpyFile::open("X.npy").read_rows(0, 2, shrinkwarp::MatrixView<double>{back.data(), 3, 2, 3, {}});
  expect(back == X, "what was written is read");

  shrinkwarp::Safetensors weights;
  weights.add("X", {2, 3}, X);
  shrinkwarp::write_safetensors("X.safetensors", weights);
  back = shrinkwarp::read_safetensors("X.safetensors").values<double>("X", {2, 3});
  expect(back == X, "tensors that were written are read");
}
