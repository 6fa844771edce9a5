#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/tools/cli/arguments.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/cli/text.hpp>
#include <shrinkwarp/tools/phantom/meg_phantom.hpp>
#include <shrinkwarp/tools/phantom/truth_file.hpp>

namespace shrinkwarp::cli {
namespace {

struct PhantomArguments {
  phantom::MegPhantomOptions phantom;
  std::string dictionary, observations, truth;
  bool quiet = false;
};

constexpr std::int64_t kBlock = 4096;  // rows made and written at a time

int run_phantom(const PhantomArguments& arguments) {
  SHRINKWARP_REQUIRE(arguments.phantom.sensors % 3 == 0, UsageError, "--sensors: found ", arguments.phantom.sensors,
                     ", wanted a multiple of 3 from 3 to 306");
  require_different_files("--dictionary", arguments.dictionary, "--observations", arguments.observations);
  if (!arguments.truth.empty()) {
    require_different_files("--truth", arguments.truth, "--dictionary", arguments.dictionary);
    require_different_files("--truth", arguments.truth, "--observations", arguments.observations);
  }
  const phantom::MegPhantom phantom(arguments.phantom);
  NpyWriter dictionary(arguments.dictionary, ElementType::f4, {phantom.rows(), phantom.columns()});
  NpyWriter observations(arguments.observations, ElementType::f4,
                         {arguments.phantom.samples, arguments.phantom.sensors});
  std::optional<phantom::TruthFile> truth;
  if (!arguments.truth.empty()) truth.emplace(arguments.truth);
  dictionary.append(phantom.dictionary().data(), phantom.rows() * phantom.columns());
  std::vector<float> rows(static_cast<std::size_t>(std::min(kBlock, arguments.phantom.samples) * phantom.rows()));
  for (std::int64_t first = 0; first < arguments.phantom.samples; first += kBlock) {
    const std::int64_t count = std::min(kBlock, arguments.phantom.samples - first);
    phantom.observations(first, count, rows.data());
    observations.append(rows.data(), count * phantom.rows());
  }
  if (truth) truth->write(phantom);
  dictionary.finish();
  observations.finish();
  if (truth) truth->finish();
  if (!arguments.quiet) {
    std::printf("dictionary    %s: %lld sensors x %lld columns\n", arguments.dictionary.c_str(),
                static_cast<long long>(phantom.rows()), static_cast<long long>(phantom.columns()));
    std::printf("observations  %s: %s samples at %g Hz\n", arguments.observations.c_str(),
                with_commas(arguments.phantom.samples).c_str(), phantom::kSampleRate);
    if (truth) std::printf("truth         %s: codes, sources, sensors and noise\n", arguments.truth.c_str());
    std::fflush(stdout);
  }
  return kDone;
}

}  // namespace

void add_phantom(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<PhantomArguments>();
  CLI::App* command = app.add_subcommand("phantom", "Make a physically right problem without any download");
  command->require_subcommand(1);
  command->footer("Example:\n  shrinkwarp phantom meg --samples 10000 --dictionary D.npy --observations X.npy");
  CLI::App* meg = command->add_subcommand(
      "meg", "A MEG helmet over a conducting sphere with a folded cortex: whitened lead field and recording");
  meg->add_option("--sensors", arguments->phantom.sensors, "a multiple of 3 up to 306")
      ->check(whole_number(3, 306))
      ->capture_default_str();
  meg->add_option("--sources", arguments->phantom.sources, "locations on the cortex")
      ->check(whole_number(1, 1000000))
      ->capture_default_str();
  meg->add_option("--samples", arguments->phantom.samples, "time samples at 600 Hz")
      ->check(whole_number(1, std::int64_t{1} << 40))
      ->capture_default_str();
  meg->add_option("--seed", arguments->phantom.seed, "of the recording")
      ->check(whole_number(0, std::int64_t{1} << 62))
      ->capture_default_str();
  meg->add_flag("--free", arguments->phantom.free_orientation, "three columns a source in place of one");
  meg->add_option("--dictionary", arguments->dictionary, "D.npy to write, float32 (sensors, columns)")->required();
  meg->add_option("--observations", arguments->observations, "X.npy to write, float32 (samples, sensors)")->required();
  meg->add_option(
      "--truth", arguments->truth,
      "T.npz to write: the true codes as scipy.sparse.load_npz reads them, with sources, sensors, lead field "
      "and noise covariance beside");
  meg->add_flag("--quiet", arguments->quiet, "print nothing");
  meg->footer("Example:\n  shrinkwarp phantom meg --samples 10000 --dictionary D.npy --observations X.npy");
  meg->callback([arguments, &action] { action = [arguments] { return run_phantom(*arguments); }; });
}

}  // namespace shrinkwarp::cli
