// Stand-in for Thrust's header of this name in the host executor's build.
#pragma once

#include "detail.hpp"
