// What a network is made of, by name: in files, in options, in Python.
#pragma once

#include <utility>

#include <shrinkwarp/models/resnet/net.hpp>
#include <shrinkwarp/runtime/named_values.hpp>

namespace shrinkwarp {

inline constexpr std::pair<const char*, Activation> kActivations[] = {
    {"none", Activation::none}, {"relu", Activation::relu}, {"gelu", Activation::gelu}, {"tanh", Activation::tanh}};
inline constexpr std::pair<const char*, Normalisation> kNormalisations[] = {
    {"none", Normalisation::none}, {"layer", Normalisation::layer}, {"batch", Normalisation::batch}};
inline constexpr std::pair<const char*, MomentumForm> kMomentumForms[] = {{"damped", MomentumForm::damped},
                                                                          {"plain", MomentumForm::plain}};
inline constexpr std::pair<const char*, Arithmetic> kArithmetics[] = {{"exact", Arithmetic::exact},
                                                                      {"approximate", Arithmetic::approximate}};

}  // namespace shrinkwarp
