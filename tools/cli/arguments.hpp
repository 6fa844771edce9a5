// Values of options that several subcommands share.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp::cli {

/// Checks of option values whose messages say what was found and what was wanted.
CLI::Validator positive_number();
CLI::Validator number_from_0();
CLI::Validator whole_number(std::int64_t smallest, std::int64_t largest);
CLI::Validator one_of(const std::vector<std::string>& names);
CLI::Validator device_name();
CLI::Validator byte_count();
/// @param others  beside those of Solver
CLI::Validator solver_name(const std::vector<std::string>& others = {});

/// The solver of a name that solver_name() lets pass.
Solver solver_named(const std::string& name);

/// Bytes from "4GiB", "500MB", "1048576": decimal and binary prefixes, B optional, any case.
/// @throws ValueError (naming the text)
std::int64_t parse_bytes(const std::string& text);

/// A file can be made under this name, or take the place of the one there, which stays. Asked before long work, whose result
/// it is for. @throws IoError
void require_writable(const std::string& path);

/// Two options name two files, under whatever names. @throws UsageError
void require_different_files(const char* first_option, const std::string& first, const char* second_option,
                             const std::string& second);

}  // namespace shrinkwarp::cli
