// Builds without MPI: a process is alone, and says so where it is not.
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp {

std::string mpi_library() {
  return "";
}

std::unique_ptr<Ranks> started_ranks() {
  const Launch launch = launch_of_environment();
  SHRINKWARP_REQUIRE(launch.size <= 1, Error, "found ", launch.size,
                     " processes of an MPI launcher, wanted one: this program was "
                     "built without MPI (SHRINKWARP_ENABLE_MPI)");
  return alone();
}

}  // namespace shrinkwarp
