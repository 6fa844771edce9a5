// A classifier's file: its tensors, under torchvision's names for a resnet, and what it is as metadata.
#pragma once

#include <shrinkwarp/models/resnet/net.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp {

/// Writes down among the metadata what a network is: `format` (shrinkwarp-net-1), `architecture`, `input` ... Gammas of layers
/// of their own are not among them: the tensors hold them.
void describe_net(const NetSpec& spec, Safetensors& file);

/// What a file's network is: by its metadata, or of a file without them one of torchvision's ResNets by the names and shapes of
/// its tensors.
/// @param input  of such a file, whose tensors say how many channels there are: its sides alone count; else not looked at
/// @throws ValueError, ShapeError (metadata that are not those of a network, or not of these tensors; naming the file, what was
///         found and what was wanted)
NetSpec net_spec_of(const Safetensors& file, const Shape& input = {3, 224, 224});

}  // namespace shrinkwarp
