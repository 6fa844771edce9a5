// How ranks end a step together: where one of them fails all do, with its message.
#pragma once

#include <exception>
#include <string>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/cli/command.hpp>
#include <shrinkwarp/tools/ranks/ranks.hpp>

namespace shrinkwarp::cli {

/// Marks an error that every rank throws: one of them tells of it, and all end as they do without one.
class Agreed {
 public:
  virtual ~Agreed() = default;
};
class AgreedError : public Error, public Agreed {
  using Error::Error;
};
class AgreedUsageError : public UsageError, public Agreed {
  using UsageError::UsageError;
};

/// How a step has ended.
struct Ending {
  enum Kind : int { usage, failed, cancelled, fine };
  Kind kind = fine;
  std::string text;             ///< of the error
  std::exception_ptr original;  ///< of a process alone

  /// Throws the error, if there was one: Agreed ones or Cancelled, or the original. @param more  is added to the text
  void rethrow(const std::string& more = "") const;
};

/// What the ranks' steps have come to: the error of the first rank that had one, usage before others and those before a
/// cancel. The text names the rank and its node where that is another than rank 0. Collective.
/// @param error  of this rank, nullptr where there is none
Ending agree(Ranks& ranks, const std::exception_ptr& error);

/// Takes a step, in which this rank waits for no other. @return as agree
template <class Step>
Ending ending_of(Ranks& ranks, const Step& step) {
  std::exception_ptr error;
  try {
    step();
  } catch (...) {
    error = std::current_exception();
  }
  return agree(ranks, error);
}

/// The same, where an error is the end. @throws as Ending::rethrow
template <class Step>
void together(Ranks& ranks, const Step& step) {
  ending_of(ranks, step).rethrow();
}

/// Looks whether all ranks were started alike: others would take other steps, and wait for one another for ever.
/// Collective. @throws AgreedUsageError
void require_same_arguments(Ranks& ranks, const std::vector<std::string>& arguments);

}  // namespace shrinkwarp::cli
