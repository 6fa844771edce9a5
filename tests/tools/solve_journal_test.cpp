// Finished problems in a journal: what goes in comes out, in order, and nothing else is taken for it. The program's use
// of it is tested in test_resume.py.
#include <shrinkwarp/tools/files/solve_journal.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/npz.hpp>
#include <shrinkwarp/runtime/io/npz_parts.hpp>
#include <shrinkwarp/tools/files/fingerprint.hpp>
#include <shrinkwarp/tools/files/solve_output.hpp>
#include <shrinkwarp/tools/files/solve_record.hpp>
#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

#include "tests/runtime/io/io_testing.hpp"

namespace shrinkwarp {
namespace {

using testing::message_of;
using testing::TemporaryFolder;

constexpr std::int64_t kAtoms = 40;

/// Problem i has i % 5 atoms; all of its numbers are made from i.
void add_problem(std::int64_t i, LassoBatch& batch) {
  const auto value = static_cast<double>(i);
  batch.index.push_back(i);
  batch.lambda.push_back(value + 0.25);
  batch.objective.push_back(value * 2);
  batch.dual_gap.push_back(value * 1e-9);
  batch.iterations.push_back(i * 25);
  batch.converged.push_back(i % 7 != 0);
  for (std::int64_t k = 0; k < i % 5; ++k) {
    batch.codes.indices.push_back(static_cast<std::int32_t>(i + k) % kAtoms);
    batch.codes.values.push_back(value - static_cast<double>(k));
  }
  batch.codes.offsets.push_back(static_cast<std::int64_t>(batch.codes.values.size()));
}

LassoBatch batch_of(const std::vector<std::int64_t>& problems) {
  LassoBatch batch;
  for (const std::int64_t i : problems) add_problem(i, batch);
  return batch;
}

class Rows : public ObservationSource {
 public:
  explicit Rows(std::int64_t size) : size_(size) {}
  std::int64_t size() const override { return size_; }
  std::int64_t dimension() const override { return 3; }
  std::string name() const override { return "X.npy"; }
  void read(std::int64_t first, MatrixView<double> X) override {
    for (std::int64_t b = 0; b < X.cols; ++b)
      for (std::int64_t i = 0; i < 3; ++i)
        X(i, b) = static_cast<double>(first + b) + 0.125 * static_cast<double>(i) + (first + b == changed ? 1e-9 : 0);
  }
  std::int64_t changed = -1;

 private:
  std::int64_t size_;
};

Fingerprint some_fingerprint() {
  Fingerprint fingerprint;
  fingerprint.add("--gap", 1e-6);
  fingerprint.add("--max-iterations", std::int64_t{2});
  return fingerprint;
}

/// Notes rows and appends, as a solve does.
void keep(SolveJournal& journal, Rows& rows, const std::vector<std::int64_t>& problems) {
  NotedObservations noted(rows, journal);
  std::vector<double> x(3);
  for (const std::int64_t i : problems) noted.read(i, {x.data(), 3, 1, 3, {}});
  journal.append(batch_of(problems));
}

TEST(Fingerprint, SaysWhatDiffers) {
  Fingerprint fingerprint;
  fingerprint.add("--gap", 1e-6);
  fingerprint.add("--solver", std::string("fista"));
  fingerprint.add("device", std::string("a: b"));
  fingerprint.add_hash("values", 0xabcu);
  EXPECT_EQ(fingerprint.text(), "--gap: 1e-06\n--solver: fista\ndevice: a: b\nvalues: 0000000000000abc\n");
  EXPECT_EQ(fingerprint.difference(fingerprint.text()), "");
  EXPECT_EQ(fingerprint.difference("--gap: 1e-08\n--solver: fista\ndevice: a: b\nvalues: 0000000000000abc\n"),
            "--gap: found 1e-08, wanted 1e-06");
  EXPECT_EQ(fingerprint.difference("--solver: ista\ndevice: a: b\nvalues: 0000000000000abc\nmore: 1\n"),
            "--gap: found none, wanted 1e-06; --solver: found ista, wanted fista; more: found 1, wanted none");
  const std::string all = fingerprint.difference("nonsense");
  EXPECT_NE(all.find("; and 2 more"), std::string::npos) << all;
  EXPECT_NE(fingerprint.difference(std::string("--gap: \n\n:\xff: ") + std::string(10000, 'x')), "");
}

TEST(Fingerprint, TellsNeighbouringNumbersApart) {
  Fingerprint a, b;
  a.add("x", 0.1);
  b.add("x", std::nextafter(0.1, 1));
  EXPECT_NE(a.text(), b.text());
}

TEST(SolveRecord, GivesBackItsEntries) {
  const LassoBatch batch = batch_of({3, 4, 10, 39, 40});
  std::vector<std::int64_t> offsets;
  const std::vector<std::byte> record = solve_record(batch, 1, 5, {0, 11, 22, 33, 44}, offsets);
  const auto bytes = static_cast<std::int64_t>(record.size());
  const Origin origin{"Test", "j"};
  EXPECT_EQ(solve_record_entries(record.data(), bytes, origin), 4);
  LassoBatch read;
  std::vector<std::uint64_t> hashes;
  std::vector<std::int64_t> found;
  read_solve_record(record.data(), bytes, 41, kAtoms, origin, [&](const EntryHead& head, std::int64_t offset) {
    hashes.push_back(head.row_hash);
    found.push_back(offset);
    append_entry(head, record.data() + offset, read);
  });
  const LassoBatch wanted = batch_of({4, 10, 39, 40});
  EXPECT_EQ(hashes, (std::vector<std::uint64_t>{11, 22, 33, 44}));
  EXPECT_EQ(found, offsets);
  EXPECT_EQ(read.index, wanted.index);
  EXPECT_EQ(read.codes.offsets, wanted.codes.offsets);
  EXPECT_EQ(read.codes.indices, wanted.codes.indices);
  EXPECT_EQ(read.codes.values, wanted.codes.values);
  EXPECT_EQ(read.lambda, wanted.lambda);
  EXPECT_EQ(read.objective, wanted.objective);
  EXPECT_EQ(read.dual_gap, wanted.dual_gap);
  EXPECT_EQ(read.iterations, wanted.iterations);
  EXPECT_EQ(read.converged, wanted.converged);
}

TEST(SolveRecord, RefusesWhatIsNone) {
  std::vector<std::int64_t> offsets;
  const std::vector<std::byte> good = solve_record(batch_of({3, 4, 9}), 0, 3, {1, 2, 3}, offsets);
  const Origin origin{"Test", "j"};
  const auto read = [&](const std::vector<std::byte>& record, std::int64_t problems, std::int64_t atoms) {
    read_solve_record(record.data(), static_cast<std::int64_t>(record.size()), problems, atoms, origin,
                      [](const EntryHead&, std::int64_t) {});
  };
  read(good, 10, kAtoms);
  message_of<IoError>([&] { read(good, 9, kAtoms); }, {"problem 9", "9 problems"});
  std::vector<std::int64_t> ignored;
  const std::vector<std::byte> four = solve_record(batch_of({4}), 0, 1, {1}, ignored);
  message_of<IoError>([&] { read(four, 10, 3); }, {"with 4 atoms", "3 atoms"});
  for (std::size_t size = 0; size < good.size(); ++size)
    message_of<IoError>(
        [&] {
          read({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}, 10, kAtoms);
        },
        {"damaged"});
  for (const std::int32_t atom : {-1, static_cast<std::int32_t>(kAtoms)}) {
    std::vector<std::byte> other = good;
    std::memcpy(other.data() + offsets[1] + sizeof(EntryHead), &atom, sizeof atom);
    message_of<IoError>([&] { read(other, 10, kAtoms); }, {concat("atom ", atom), "problem 4", "one of 40 atoms"});
  }
  std::vector<std::byte> more = good;
  more.push_back(std::byte{0});
  message_of<IoError>([&] { read(more, 10, kAtoms); }, {"behind its entries"});
  std::mt19937 dice(2);
  for (int round = 0; round < 2000; ++round) {  // no more than an error, whatever the bytes
    std::vector<std::byte> bytes = good;
    for (int i = 0; i < 3; ++i) bytes[dice() % bytes.size()] = static_cast<std::byte>(dice());
    try {
      read(bytes, 10, kAtoms);
    } catch (const IoError&) {
    }
  }
}

TEST(SolveJournal, MakesAResultOfProblemsInAnyOrder) {
  const TemporaryFolder folder;
  constexpr std::int64_t kProblems = 10000;
  Rows rows(kProblems);
  const std::string output = folder / "Z.npz";
  std::vector<std::int64_t> order(kProblems);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  {
    SolveJournal journal(output);
    EXPECT_EQ(journal.held(), 0);
    journal.start(some_fingerprint(), rows, kAtoms, nullptr);
    for (std::size_t i = 0; i < order.size(); i += 100) {
      std::vector<std::int64_t> part(order.begin() + static_cast<std::ptrdiff_t>(i),
                                     order.begin() + static_cast<std::ptrdiff_t>(i + 100));
      std::sort(part.begin(), part.end());
      keep(journal, rows, part);
    }
    EXPECT_EQ(journal.held(), kProblems);
  }
  EXPECT_EQ(folder.names(), std::vector<std::string>{"Z.npz.journal"});
  SolveJournal journal(output);
  EXPECT_EQ(journal.held(), kProblems);
  const LassoSummary summary = journal.start(some_fingerprint(), rows, kAtoms, nullptr);
  EXPECT_EQ(summary.problems, kProblems);
  EXPECT_EQ(summary.unconverged, (kProblems + 6) / 7);
  EXPECT_EQ(summary.nonzeros, 2 * kProblems);
  EXPECT_EQ(summary.iterations, 25 * kProblems * (kProblems - 1) / 2);
  CancelToken token;
  token.cancel();
  EXPECT_THROW(write_output(journal, output, &token), Cancelled);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"Z.npz.journal"});
  write_output(journal, output, nullptr);
  journal.remove();
  EXPECT_EQ(folder.names(), std::vector<std::string>{"Z.npz"});

  std::vector<std::int64_t> all(kProblems);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  const LassoBatch wanted = batch_of(all);
  NpzReader file = NpzReader::open(output);
  const auto same = [&](const char* name, const auto& values) {
    const NpyArray array = file.read(name);
    ASSERT_EQ(array.data.size(), values.size() * sizeof(values[0])) << name;
    EXPECT_EQ(std::memcmp(array.data.data(), values.data(), array.data.size()), 0) << name;
  };
  same("data", wanted.codes.values);
  same("indices", wanted.codes.indices);
  same("indptr", std::vector<std::int32_t>(wanted.codes.offsets.begin(), wanted.codes.offsets.end()));
  same("lambda", wanted.lambda);
  same("objective", wanted.objective);
  same("dual_gap", wanted.dual_gap);
  same("iterations", wanted.iterations);
  same("converged", wanted.converged);
}

std::vector<std::byte> bytes_of_file(const std::string& path) {
  const InputFile file = InputFile::open("Test", path);
  std::vector<std::byte> bytes(static_cast<std::size_t>(file.size()));
  file.read(0, bytes.data(), file.size());
  return bytes;
}

using Journals = std::vector<std::unique_ptr<SolveJournal>>;

/// What MPI does among processes: each gives its values, all get the largest or the sum.
void merge_all(const Journals& journals, std::int64_t problems) {
  std::vector<std::int64_t> largest(static_cast<std::size_t>(problems), -1), sums(largest.size());
  for (const bool collected : {false, true}) {
    for (const auto& journal : journals) {
      std::int64_t* at = largest.data();
      journal->merge(
          [&](std::int64_t* values, std::int64_t count) {
            for (std::int64_t i = 0; i < count; ++i, ++at) values[i] = *at = std::max(values[i], *at);
          },
          [&](std::int64_t* values, std::int64_t count) {
            for (auto i = 0; i < count; ++i)
              values[i] =
                  collected ? sums[static_cast<std::size_t>(i)] : sums[static_cast<std::size_t>(i)] += values[i];
          });
    }
  }
}

/// Writes the output as processes do, one after the other, the last one first.
void write_together(const Journals& journals, const std::string& output) {
  std::vector<std::unique_ptr<SolveOutput>> outputs;
  for (const auto& journal : journals) outputs.push_back(std::make_unique<SolveOutput>(*journal, output));
  const std::string file = outputs[0]->begin();
  std::vector<std::int64_t> sum(outputs[0]->numbers().size());
  for (auto one = outputs.rbegin(); one != outputs.rend(); ++one) {
    (*one)->write(file, [] {});
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += (*one)->numbers().at(i);
  }
  outputs[0]->numbers() = sum;
  outputs[0]->finish();
}

// Parts of five, then of two, then of one: nobody solves what another holds, and the file is that of a journal alone.
TEST(SolveJournal, HasPartsOfSeveralProcesses) {
  const TemporaryFolder folder;
  constexpr std::int64_t kProblems = 3000;
  Rows rows(kProblems);
  const std::string output = folder / "Z.npz", alone = folder / "A.npz";
  std::vector<std::int64_t> order(kProblems);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
  {
    SolveJournal journal(alone);
    journal.start(some_fingerprint(), rows, kAtoms, nullptr);
    keep(journal, rows, order);
    write_output(journal, alone, nullptr);
    journal.remove();
  }
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  std::size_t next = 0;
  std::vector<int> wanted_parts;
  for (const int parts : {5, 2, 1}) {
    Journals journals;
    std::int64_t held = 0;
    for (int part = 0; part < parts; ++part) {
      journals.push_back(std::make_unique<SolveJournal>(output, part, parts));
      held += journals.back()->held();
      EXPECT_EQ(journals.back()->start(some_fingerprint(), rows, kAtoms, nullptr).problems, journals.back()->held());
    }
    EXPECT_EQ(held, static_cast<std::int64_t>(next));
    merge_all(journals, kProblems);
    for (std::size_t i = 0; i < order.size(); ++i)
      for (const auto& journal : journals) EXPECT_EQ(journal->holds(order[i]), i < next);
    for (const auto& journal : journals) {
      std::vector<std::int64_t> some(
          order.begin() + static_cast<std::ptrdiff_t>(next),
          order.begin() + static_cast<std::ptrdiff_t>(parts == 1 ? order.size() : next + 300));
      next += some.size();
      std::sort(some.begin(), some.end());
      keep(*journal, rows, some);
    }
    EXPECT_EQ(SolveJournal::parts_of(output), (std::vector<int>{0, 1, 2, 3, 4}));
    message_of<IoError>([&] { SolveJournal another(output, 0, parts); }, {"is in use by another process"});
    if (parts == 2) {  // all the rest, so that parts of others are read
      std::vector<std::int64_t> some(order.begin() + static_cast<std::ptrdiff_t>(next), order.end() - 1);
      next += some.size();
      std::sort(some.begin(), some.end());
      keep(*journals[1], rows, some);
      for (const auto& journal : journals) journal->sync();
      merge_all(journals, kProblems);
      message_of<ValueError>([&] { write_together(journals, output); }, {"is not in"});
    }
    for (const auto& journal : journals) journal->sync();
    if (parts == 1) {
      EXPECT_EQ(next, order.size());
      write_output(*journals[0], output, nullptr);
      journals[0]->remove();
    }
  }
  EXPECT_EQ(folder.names(), (std::vector<std::string>{"A.npz", "Z.npz"}));
  EXPECT_EQ(bytes_of_file(output), bytes_of_file(alone));
}

TEST(SolveJournal, ReadsPartsThatOthersHave) {
  const TemporaryFolder folder;
  Rows rows(40);
  const std::string output = folder / "Z.npz", alone = folder / "A.npz";
  std::vector<std::int64_t> even, odd, all;
  for (std::int64_t i = 0; i < 40; ++i) {
    (i % 2 == 0 ? even : odd).push_back(i);
    all.push_back(i);
  }
  SolveJournal whole(alone);
  Journals journals;
  for (int part = 0; part < 2; ++part) journals.push_back(std::make_unique<SolveJournal>(output, part, 2));
  for (SolveJournal* journal : {&whole, journals[0].get(), journals[1].get()})
    journal->start(some_fingerprint(), rows, kAtoms, nullptr);
  keep(whole, rows, all);
  keep(*journals[0], rows, even);
  keep(*journals[1], rows, odd);
  for (const auto& journal : journals) journal->sync();
  merge_all(journals, 40);
  write_output(whole, alone, nullptr);
  write_together(journals, output);
  EXPECT_EQ(bytes_of_file(output), bytes_of_file(alone));
}

// Fewer problems than processes, and blocks of problems that differ in their nonzeros.
TEST(SolveOutput, HasTheSameBytesWhoeverWritesIt) {
  const TemporaryFolder folder;
  const std::string output = folder / "Z.npz", alone = folder / "A.npz";
  for (const std::int64_t problems : {1, 64, 65, 1000, 20000}) {
    Rows rows(problems);
    LassoBatch batch;
    for (std::int64_t i = 0; i < problems; ++i) {  // the last fifth has twenty times the nonzeros of the others
      add_problem(5 * i + 2, batch);
      batch.index.back() = i;
      for (int k = 0; 5 * i >= 4 * problems && k < 38; ++k) {
        batch.codes.indices.push_back(k);
        batch.codes.values.push_back(static_cast<double>(i) / 3);
        ++batch.codes.offsets.back();
      }
    }
    const auto hold = [&](SolveJournal& journal) {
      journal.start(some_fingerprint(), rows, kAtoms, nullptr);
      NotedObservations noted(rows, journal);
      std::vector<double> x(static_cast<std::size_t>(3 * problems));
      noted.read(0, {x.data(), 3, problems, 3, {}});
      journal.append(batch);
    };
    {
      SolveJournal journal(alone);
      hold(journal);
      write_output(journal, alone, nullptr);
      journal.remove();
    }
    for (const int parts : {1, 2, 3, 7}) {
      Journals journals;
      for (int part = 0; part < parts; ++part) {
        journals.push_back(std::make_unique<SolveJournal>(output, part, parts));
        if (part == parts - 1) {
          hold(*journals.back());
        } else {
          journals.back()->start(some_fingerprint(), rows, kAtoms, nullptr);
        }
      }
      journals.back()->sync();
      merge_all(journals, problems);
      const std::vector<SparseCodesRange> ranges = journals[0]->ranges();
      ASSERT_EQ(ranges.size(), static_cast<std::size_t>(parts));
      const std::int64_t all = 56 * problems + 12 * journals[0]->sizes(false).nonzeros;
      for (const SparseCodesRange& range : ranges) {
        const std::int64_t bytes = 56 * (range.last - range.first) + 12 * (range.last_nonzero - range.first_nonzero);
        const std::int64_t block = std::max<std::int64_t>(64, problems / (16 * parts) + 1) * (56 + 12 * 40);
        EXPECT_LE(bytes, all / parts + block) << problems << " problems, " << parts << " parts";
      }
      write_together(journals, output);
      EXPECT_EQ(bytes_of_file(output), bytes_of_file(alone)) << problems << " problems, " << parts << " parts";
      for (const auto& journal : journals) journal->remove();
    }
  }
  EXPECT_EQ(folder.names().size(), 2u);
}

TEST(SolveOutput, LeavesNothingWhereAPartFails) {
  const TemporaryFolder folder;
  Rows rows(200);
  const std::string output = folder / "Z.npz";
  Journals journals;
  std::vector<std::int64_t> all(200);
  std::iota(all.begin(), all.end(), 0);
  for (int part = 0; part < 2; ++part) {
    journals.push_back(std::make_unique<SolveJournal>(output, part, 2));
    journals[static_cast<std::size_t>(part)]->start(some_fingerprint(), rows, kAtoms, nullptr);
  }
  keep(*journals[0], rows, all);
  journals[0]->sync();
  merge_all(journals, 200);
  testing::write_bytes(output, "before");
  {
    SolveOutput first(*journals[0], output), second(*journals[1], output);
    const std::string file = first.begin();
    first.write(file, [] {});
    EXPECT_THROW(second.write(file, [] { SHRINKWARP_THROW(Cancelled, "now"); }), Cancelled);
    EXPECT_EQ(folder.names().size(), 4u);  // two parts, what is there, and the file in the making
  }
  EXPECT_EQ(folder.names().size(), 3u);
  EXPECT_EQ(testing::file_bytes(output), "before");
}

TEST(SolveJournal, ReadsPartsOfAnyNumber) {
  const TemporaryFolder folder;
  Rows rows(40);
  const std::string output = folder / "Z.npz";
  {
    SolveJournal last(output, 999999, 1000000);
    last.start(some_fingerprint(), rows, kAtoms, nullptr);
    keep(last, rows, {3, 7});
  }
  EXPECT_EQ(SolveJournal::parts_of(output), std::vector<int>{999999});
  SolveJournal journal(output);
  EXPECT_EQ(journal.start(some_fingerprint(), rows, kAtoms, nullptr).problems, 2);
  for (std::int64_t i = 0; i < 40; ++i) EXPECT_EQ(journal.holds(i), i == 3 || i == 7) << i;
}

TEST(SolveJournal, KnowsTheRowsItHasSolved) {
  const TemporaryFolder folder;
  Rows rows(50);
  const std::string output = folder / "Z.npz";
  {
    SolveJournal journal(output);
    journal.start(some_fingerprint(), rows, kAtoms, nullptr);
    keep(journal, rows, {3, 17, 40});
    EXPECT_THROW(write_output(journal, output, nullptr), ValueError);  // problems are missing
    EXPECT_THROW(journal.append(batch_of({5})), ValueError);           // a row that was not noted
    std::vector<double> x(3);
    NotedObservations noted(rows, journal);
    noted.read(6, {x.data(), 3, 1, 3, {}});
    noted.read(6, {x.data(), 3, 1, 3, {}});
    rows.changed = 6;
    message_of<ValueError>([&] { noted.read(6, {x.data(), 3, 1, 3, {}}); }, {"X.npy: row 6 changed"});
  }
  SolveJournal journal(output);
  EXPECT_EQ(journal.held(), 3);
  rows.changed = 4;  // not solved yet
  journal.start(some_fingerprint(), rows, kAtoms, nullptr);
  EXPECT_TRUE(journal.holds(17));
  EXPECT_FALSE(journal.holds(4));
  rows.changed = 17;
  message_of<ValueError>([&] { journal.start(some_fingerprint(), rows, kAtoms, nullptr); },
                         {"X.npy: row 17 is not what it was", "Z.npz.journal"});
  rows.changed = -1;
  Fingerprint other;
  other.add("--gap", 1e-7);
  message_of<ValueError>([&] { journal.start(other, rows, kAtoms, nullptr); }, {"--gap: found 1e-06, wanted 1e-07"});
  CancelToken token;
  token.cancel();
  EXPECT_THROW(journal.start(some_fingerprint(), rows, kAtoms, &token), Cancelled);
}

TEST(SolveJournal, LeavesNothingWhereNothingWasFinished) {
  const TemporaryFolder folder;
  Rows rows(5);
  {
    SolveJournal journal(folder / "Z.npz");
    journal.start(some_fingerprint(), rows, kAtoms, nullptr);
    EXPECT_EQ(folder.names(), std::vector<std::string>{"Z.npz.journal"});
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(SolveJournal, LeavesDamageThatMayHaveBeenProblems) {
  const TemporaryFolder folder;
  Rows rows(5);
  const std::string path = folder / "Z.npz.journal";
  {
    SolveJournal journal(folder / "Z.npz");
    journal.start(some_fingerprint(), rows, kAtoms, nullptr);
    keep(journal, rows, {0, 1});
  }
  std::string bytes = testing::file_bytes(path);
  bytes.back() ^= 1;
  testing::write_bytes(path, bytes);
  {
    const SolveJournal journal(folder / "Z.npz");
    EXPECT_EQ(journal.held(), 0);
    EXPECT_GT(journal.damaged_bytes(), 0);
  }
  EXPECT_EQ(testing::file_bytes(path), bytes);
}

TEST(SolveJournal, RefusesJournalsOfOtherWorkAndProblemsThatAreThereTwice) {
  const TemporaryFolder folder;
  const std::string output = folder / "Z.npz";
  Rows rows(50);
  {
    Journal other = Journal::open("Test", output + ".journal");
    other.begin("journal: training 1\n");
    other.append("x", 1);
  }
  message_of<IoError>([&] { SolveJournal journal(output); },
                      {"found 'journal: training 1', wanted 'journal: solve 1'"});
  std::filesystem::remove(output + ".journal");
  {
    SolveJournal journal(output);
    journal.start(some_fingerprint(), rows, kAtoms, nullptr);
    keep(journal, rows, {3, 17});
    keep(journal, rows, {3});
  }
  SolveJournal journal(output);
  message_of<IoError>([&] { journal.start(some_fingerprint(), rows, kAtoms, nullptr); }, {"problem 3 is there twice"});
}

TEST(SparseCodesFile, WantsAllProblemsInOrder) {
  const TemporaryFolder folder;
  const std::string path = folder / "Z.npz";
  const SparseCodesSizes sizes{4, kAtoms, 6};  // 0 + 1 + 2 + 3 nonzeros
  SparseCodesFile file(path, sizes);
  const auto part = [&](const SparseCodesRange& range) {
    return std::make_unique<SparseCodesPart>(path, file.temporary_path(), sizes, range);
  };
  message_of<ValueError>([&] { part({0, 3, 0, 3})->append(batch_of({1})); }, {"found problem 1, wanted 0"});
  message_of<ValueError>([&] { part({0, 3, 0, 3})->append(batch_of({0, 1, 2, 3})); }, {"found problem 3"});
  message_of<ValueError>([&] { part({0, 3, 0, 2})->append(batch_of({0, 1, 2})); }, {"3 nonzeros more", "than 2"});
  const auto short_part = part({0, 3, 0, 3});
  short_part->append(batch_of({0, 1}));
  message_of<ValueError>([&] { short_part->finish(false); }, {"1 problems and 2 nonzeros are missing"});
  const auto last = part({3, 4, 3, 6}), first = part({0, 3, 0, 3});
  last->append(batch_of({3}));
  first->append(batch_of({0, 1, 2}));
  const std::vector<std::uint32_t> sums[] = {first->finish(false), last->finish(true)};
  message_of<ValueError>([&] { file.finish("", {{0, 3, 0, 3}}, {sums[0]}); }, {"found 3 problems and 3 nonzeros"});
  message_of<ValueError>([&] { file.finish("", {{3, 4, 3, 6}}, {sums[1]}); }, {"from problem 3", "from 0"});
  EXPECT_TRUE(folder.names().empty());
  file.finish("f", {{0, 3, 0, 3}, {3, 4, 3, 6}}, {sums[0], sums[1]});
  const NpyArray data = NpzReader::open(path).read("data");  // with its checksum
  EXPECT_EQ(std::memcmp(data.data.data(), batch_of({0, 1, 2, 3}).codes.values.data(), data.data.size()), 0);
}

// More than 2^31 nonzeros, in a file of holes.
TEST(SparseCodesFile, HasWideOffsetsWhereTheyAreNeeded) {
  const TemporaryFolder folder;
  const std::string path = folder / "Z.npz";
  const std::int64_t before = std::int64_t{1} << 31;
  const SparseCodesSizes sizes{8, kAtoms, before + 7};
  SparseCodesFile file(path, sizes, true);
  SparseCodesPart part(path, file.temporary_path(), sizes, {5, 8, before, before + 7});
  LassoBatch batch = batch_of({2, 4, 1});
  batch.index = {5, 6, 7};
  part.append(batch);
  part.finish(true);
  const InputFile written = InputFile::open("Test", file.temporary_path());
  NpzLayout layout;
  layout.add("data", ElementType::f8, {before + 7});
  layout.add("indices", ElementType::i4, {before + 7});
  const int indptr = layout.add("indptr", ElementType::i8, {9});
  std::int64_t ends[3];
  written.read(layout.offset(indptr) + 6 * 8, ends, sizeof ends);
  EXPECT_EQ(ends[0], before + 2);
  EXPECT_EQ(ends[2], before + 7);
  double value = 0;
  written.read(layout.offset(0) + 8 * (before + 6), &value, sizeof value);
  EXPECT_EQ(value, batch.codes.values.back());
}

}  // namespace
}  // namespace shrinkwarp
