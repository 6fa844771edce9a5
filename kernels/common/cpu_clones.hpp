// Function multiversioning for plain CPU loops: the compiler makes one body for each level of the processor and the
// dynamic linker picks at load time, so that nothing is built for the machine it happens to be built on.
#pragma once

// Sanitizers do not run before the resolvers of multiversioned functions do; they get the baseline body.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SHRINKWARP_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SHRINKWARP_CPU_CLONES
#endif
