#include <shrinkwarp/tools/phantom/truth_file.hpp>

#include <algorithm>
#include <limits>
#include <vector>

namespace shrinkwarp::phantom {
namespace {

std::vector<double> coordinates(const std::vector<Vec3>& vectors) {
  std::vector<double> values;
  values.reserve(3 * vectors.size());
  for (const Vec3& v : vectors) values.insert(values.end(), {v.x, v.y, v.z});
  return values;
}

void put_numbers(NpzWriter& writer, const std::string& name, const std::vector<double>& values, std::int64_t row = 0) {
  const auto size = static_cast<std::int64_t>(values.size());
  if (row == 0) {
    writer.put(name, ElementType::f8, {size}, values.data());
  } else {
    writer.put(name, ElementType::f8, {size / row, row}, values.data());
  }
}

}  // namespace

void TruthFile::write(const MegPhantom& phantom) {
  write_codes(phantom);
  write_geometry(phantom);
  write_noise(phantom);
  write_drives(phantom);
}

void TruthFile::write_codes(const MegPhantom& phantom) {
  const std::int64_t samples = phantom.options().samples, m = phantom.columns();
  const int data = writer_.add("data", ElementType::f4), indices = writer_.add("indices", ElementType::i4);
  const std::int64_t block = std::min(samples, std::max<std::int64_t>((std::int64_t{1} << 22) / m, 1));
  std::vector<float> dense(static_cast<std::size_t>(block * m)), values;
  std::vector<std::int32_t> columns;
  std::vector<std::int64_t> indptr{0};
  for (std::int64_t first = 0; first < samples; first += block) {
    const std::int64_t count = std::min(block, samples - first);
    phantom.codes(first, count, dense.data());
    values.clear();
    columns.clear();
    for (std::int64_t row = 0; row < count; ++row) {
      for (std::int64_t j = 0; j < m; ++j) {
        const float value = dense[static_cast<std::size_t>(row * m + j)];
        if (value == 0) continue;
        values.push_back(value);
        columns.push_back(static_cast<std::int32_t>(j));
      }
      indptr.push_back(writer_.size(data) + static_cast<std::int64_t>(values.size()));
    }
    writer_.append(data, values.data(), static_cast<std::int64_t>(values.size()));
    writer_.append(indices, columns.data(), static_cast<std::int64_t>(columns.size()));
  }
  if (indptr.back() <= std::numeric_limits<std::int32_t>::max()) {
    const std::vector<std::int32_t> narrow(indptr.begin(), indptr.end());
    writer_.put("indptr", ElementType::i4, {samples + 1}, narrow.data());
  } else {
    writer_.put("indptr", ElementType::i8, {samples + 1}, indptr.data());
  }
  const std::int64_t shape[] = {samples, m};
  writer_.put("shape", ElementType::i8, {2}, shape);
  writer_.put_text("format", "csr");
}

void TruthFile::write_geometry(const MegPhantom& phantom) {
  put_numbers(writer_, "column_weight", phantom.column_weights());
  put_numbers(writer_, "source_position", coordinates(phantom.source_positions()), 3);
  put_numbers(writer_, "source_orientation", coordinates(phantom.source_orientations()), 3);
  std::vector<Vec3> positions, normals, tangents;
  std::vector<std::uint8_t> magnetometer;
  for (const Sensor& sensor : phantom.sensors()) {
    positions.push_back(sensor.position);
    normals.push_back(sensor.normal);
    tangents.push_back(sensor.tangent);
    magnetometer.push_back(sensor.magnetometer ? 1 : 0);
  }
  put_numbers(writer_, "sensor_position", coordinates(positions), 3);
  put_numbers(writer_, "sensor_normal", coordinates(normals), 3);
  put_numbers(writer_, "sensor_tangent", coordinates(tangents), 3);
  writer_.put("sensor_is_magnetometer", ElementType::b1, {phantom.rows()}, magnetometer.data());
  writer_.put("sample_rate", ElementType::f8, {}, &kSampleRate);

  const int lead_field = writer_.add("lead_field", ElementType::f8, {phantom.columns()});
  std::vector<double> row;
  for (const Sensor& sensor : phantom.sensors()) {
    row.clear();
    for (std::size_t k = 0; k < phantom.source_positions().size(); ++k) {
      const Vec3& position = phantom.source_positions()[k];
      if (phantom.options().free_orientation) {
        for (const Vec3& axis : {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}})
          row.push_back(reading_of_dipole(sensor, position, axis));
      } else {
        row.push_back(reading_of_dipole(sensor, position, phantom.source_orientations()[k]));
      }
    }
    writer_.append(lead_field, row.data(), phantom.columns());
  }
}

void TruthFile::write_noise(const MegPhantom& phantom) {
  put_numbers(writer_, "noise_covariance", phantom.noise_covariance(), phantom.rows());
  put_numbers(writer_, "whitener", phantom.whitener(), phantom.rows());
}

void TruthFile::write_drives(const MegPhantom& phantom) {
  std::vector<std::int64_t> location;
  std::vector<double> onset, frequency, decay, phase, peak;
  for (const Drive& drive : phantom.drives(0, phantom.options().samples)) {
    location.push_back(drive.location);
    onset.push_back(drive.onset);
    frequency.push_back(drive.frequency);
    decay.push_back(drive.decay);
    phase.push_back(drive.phase);
    peak.push_back(drive.peak);
  }
  writer_.put("drive_location", ElementType::i8, {static_cast<std::int64_t>(location.size())}, location.data());
  put_numbers(writer_, "drive_onset", onset);
  put_numbers(writer_, "drive_frequency", frequency);
  put_numbers(writer_, "drive_decay", decay);
  put_numbers(writer_, "drive_phase", phase);
  put_numbers(writer_, "drive_peak", peak);
}

}  // namespace shrinkwarp::phantom
