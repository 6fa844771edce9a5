// Samples and labels of classifiers as .npy files.
#pragma once

#include <string>

#include <shrinkwarp/models/resnet/classification.hpp>

namespace shrinkwarp {

/// Samples alone, labels left empty: (N, features) or (N, channels, height, width) of f4, f8 or u1 in C order.
/// @throws IoError, ShapeError (other dimensions, no samples), ValueError (NaN or infinity: names the sample; another order)
LabelledSamples read_samples(const std::string& path);

/// Labels of `samples`: (N,) of i4, i8 or u1, none negative.
/// @param classes  how many there are; 0: as many as the largest label says
/// @throws IoError, ShapeError (another number than there are samples), ValueError (a label beyond the classes)
void read_labels(const std::string& path, std::int64_t classes, LabelledSamples& samples);

/// One more than the largest label.
std::int64_t classes_of(const LabelledSamples& samples);

}  // namespace shrinkwarp
