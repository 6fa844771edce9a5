/* shrinkwarp for C: very many Lasso problems with one dictionary,
 *
 *     z_i = argmin 1/2 ||x_i - D z||^2 + lambda_i ||z||_1,    i = 0 .. N - 1,
 *
 * each with a certificate, on the CPU or on CUDA; with weights, in groups, as elastic nets or for nonnegative codes
 * where the options say so. C99 and C++. A program links libshrinkwarp_c alone: CMake target shrinkwarp::c, pkg-config
 * module shrinkwarp_c. docs/embedding.md has a first program.
 *
 * Arrays     D is n x m: n rows, m atoms. Observations are rows of n numbers, codes rows of m numbers, kept sparse.
 *            Strides count elements, not bytes. All memory is the host's, also where the work runs on CUDA. Numbers
 *            have whatever units D and X have; lambda has those of D'x, the objective those of x^2.
 * Status     Functions that can fail return a status; shrinkwarp_last_error() has the words. No exception leaves the
 *            library, it never prints, exits or aborts. NULL where a pointer is wanted, sizes, types and values that do
 *            not fit are refused; that memory is as large as its sizes say, and that a handle is alive, is the caller's
 *            word. What a failed call would have written is NULL or left alone, as each function says.
 *            A problem that misses its gap is no error: its result has the gap and converged = 0.
 * Ownership  shrinkwarp_..._create and solve give handles that the caller gives back with shrinkwarp_..._destroy, in
 *            any order and from any thread. Data that is passed in is read during the call and not kept. Strings and
 *            arrays that the library gives last as long as what they are asked of.
 * Threads    A context is used by one thread at a time. A dictionary may be used by several at once, each with a
 *            context of its own on the dictionary's device; a result may be read by several. Callbacks run on the
 *            thread that called; they must return: no longjmp, no C++ exception. In a callback the context is in use.
 * Structs    Each begins with struct_size. A program fills in its structs with shrinkwarp_..._init(&s, sizeof s), which
 *            gives all fields their defaults, and changes what it wants. Later versions add fields at the end: a
 *            library takes structs that end after any field, those beyond having their defaults, and structs of later
 *            versions whose fields that it does not know are 0. Structs that the library hands to a program may be
 *            longer than the program knows; one that was compiled for a later version looks at struct_size before it
 *            reads newer fields.
 */
#ifndef SHRINKWARP_H
#define SHRINKWARP_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SHRINKWARP_API __attribute__((visibility("default")))
#else
#define SHRINKWARP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Versions ---------------------------------------------------------------------------------------------------- */

/* Of this header. The interface has a number of its own, which is the library's SONAME, libshrinkwarp_c.so.1: a program
 * runs with every later library of the same number, docs/embedding.md has the promise. */
#define SHRINKWARP_VERSION_MAJOR 0
#define SHRINKWARP_VERSION_MINOR 1
#define SHRINKWARP_VERSION_PATCH 0

/* Of the library that runs, "0.1.0". Lasts for ever; from any thread. */
SHRINKWARP_API const char* shrinkwarp_version(void);
/* The same as 10000 major + 100 minor + patch: 100 for 0.1.0. */
SHRINKWARP_API int32_t shrinkwarp_version_number(void);

/* ---- Status and errors ------------------------------------------------------------------------------------------- */

typedef int32_t shrinkwarp_status;
enum {
  SHRINKWARP_OK = 0,
  SHRINKWARP_ERROR = 1,        /* what none of the others is */
  SHRINKWARP_SHAPE_ERROR = 2,  /* sizes or strides do not fit */
  SHRINKWARP_DEVICE_ERROR = 3, /* a dictionary of another device than the context's */
  SHRINKWARP_VALUE_ERROR =
      4, /* a value outside its domain: NULL, a negative lambda, NaN in the data, an unknown type */
  SHRINKWARP_BACKEND_UNAVAILABLE = 5, /* no CUDA in this build, no driver, no such device */
  SHRINKWARP_CUDA_ERROR = 6,
  SHRINKWARP_CUBLAS_ERROR = 7,
  SHRINKWARP_CANCELLED = 8, /* by the progress callback; what had finished has been delivered */
  SHRINKWARP_OUT_OF_MEMORY = 9,
  SHRINKWARP_IO_ERROR = 10,      /* of a file; no function of this version reads or writes any */
  SHRINKWARP_CALLBACK_ERROR = 11 /* a source or a sink of the program's returned other than 0 */
};

/* "SHRINKWARP_OK" and so on; "unknown status" for other numbers. Lasts for ever; from any thread. */
SHRINKWARP_API const char* shrinkwarp_status_name(shrinkwarp_status status);

/* What the last call of this thread that did not return SHRINKWARP_OK had to say, in one line: function, argument, what
 * was found and what was wanted. "" where none has. Never NULL; calls that succeed leave it. Lasts until the next call
 * of this thread that fails. At most 1023 bytes. */
SHRINKWARP_API const char* shrinkwarp_last_error(void);

/* ---- Contexts: where work runs ----------------------------------------------------------------------------------- */

typedef struct shrinkwarp_context shrinkwarp_context;

/* Each writes a new context to *context, or NULL there where it fails.
 *
 * cpu             threads >= 0; 0 for every processor that the process may run on. Results do not depend on the number
 * cuda            device 0, 1, ... with a stream of its own
 * cuda_on_stream  the calling thread's current device with the program's stream, a cudaStream_t, which must outlive the
 *                 context and all that was made with it; NULL is the legacy default stream. Work is ordered with what
 *                 the program queues there. Calls leave the context's device current
 * best            the first CUDA device where there is one, else the CPU with every processor
 *
 * Fails with   VALUE_ERROR (context is NULL, threads < 0), BACKEND_UNAVAILABLE, CUDA_ERROR, OUT_OF_MEMORY, ERROR
 *              (the system gives no more threads) */
SHRINKWARP_API shrinkwarp_status shrinkwarp_context_create_cpu(int32_t threads, shrinkwarp_context** context);
SHRINKWARP_API shrinkwarp_status shrinkwarp_context_create_cuda(int32_t device, shrinkwarp_context** context);
SHRINKWARP_API shrinkwarp_status shrinkwarp_context_create_cuda_on_stream(void* stream, shrinkwarp_context** context);
SHRINKWARP_API shrinkwarp_status shrinkwarp_context_create_best(shrinkwarp_context** context);
/* NULL is ignored. Dictionaries that were made with it stay usable. */
SHRINKWARP_API void shrinkwarp_context_destroy(shrinkwarp_context* context);

/* 1 on CUDA; 0 on the CPU and for NULL. */
SHRINKWARP_API int32_t shrinkwarp_context_is_cuda(const shrinkwarp_context* context);
/* A human's name of the device, with its threads or multiprocessors. "" for NULL. Lasts as long as the context. */
SHRINKWARP_API const char* shrinkwarp_context_description(const shrinkwarp_context* context);

/* Usable CUDA devices: 0 without CUDA in the build, without a driver or without a device. From any thread. */
SHRINKWARP_API int32_t shrinkwarp_cuda_device_count(void);

/* ---- Dictionaries ------------------------------------------------------------------------------------------------ */

enum {
  SHRINKWARP_FLOAT32 = 1, /* of matrices and observations: float */
  SHRINKWARP_FLOAT64 = 2  /* double */
};

/* D [n, m] in memory: D[i][j] at data[i * row_stride + j * atom_stride]. Both strides 0 stand for rows without gaps (C
 * order), that is m and 1; columns without gaps (Fortran order) are 1 and n. One of the strides passes over a whole row
 * or column, so that no two entries share a place. */
typedef struct shrinkwarp_matrix {
  size_t struct_size;
  const void* data;
  int64_t rows;        /* n >= 1, the length of an observation */
  int64_t atoms;       /* m, 1 to 2^31 - 1 */
  int64_t row_stride;  /* from a row to the next */
  int64_t atom_stride; /* from an atom to the next */
  int32_t type;        /* SHRINKWARP_FLOAT64 by default */
  int32_t reserved;    /* 0 */
} shrinkwarp_matrix;

/* Fills in the defaults: none but the type. Fails with VALUE_ERROR (NULL; a size that is none of this struct). */
SHRINKWARP_API shrinkwarp_status shrinkwarp_matrix_init(shrinkwarp_matrix* matrix, size_t struct_size);

typedef struct shrinkwarp_dictionary shrinkwarp_dictionary;

/* Prepares D on the context's device: scaled, its norm bounded; packed for a solver at the first solve that needs it.
 * Make it once and solve with it as often as needed.
 *
 * context     stays usable by the caller and may be destroyed before the dictionary
 * D           read during the call. Columns of 0 are legal
 * dictionary  written: the new handle, NULL where the call fails
 *
 * Cost        a copy of D in float64, on CUDA two; where D is no float64 with row_stride 1 another while the call runs
 * Fails with  VALUE_ERROR (NULL; an unknown type; NaN or infinity: names the entry), SHAPE_ERROR (no rows or no atoms,
 *             or too many; strides under which entries may share a place), OUT_OF_MEMORY, CUDA_ERROR */
SHRINKWARP_API shrinkwarp_status shrinkwarp_dictionary_create(shrinkwarp_context* context, const shrinkwarp_matrix* D,
                                                              shrinkwarp_dictionary** dictionary);
/* NULL is ignored. */
SHRINKWARP_API void shrinkwarp_dictionary_destroy(shrinkwarp_dictionary* dictionary);
/* n and m; 0 for NULL. */
SHRINKWARP_API int64_t shrinkwarp_dictionary_rows(const shrinkwarp_dictionary* dictionary);
SHRINKWARP_API int64_t shrinkwarp_dictionary_atoms(const shrinkwarp_dictionary* dictionary);

/* ---- Observations ------------------------------------------------------------------------------------------------ */

/* Gives observations first .. first + count - 1: writes n doubles of each, observation first + i from X[i * row_stride]
 * on. Called in any order, and more than once for the same observations. Returns 0; any other number ends the call with
 * SHRINKWARP_CALLBACK_ERROR, a solve after what was read before has been finished and delivered. */
typedef int (*shrinkwarp_read)(void* user, int64_t first, int64_t count, double* X, int64_t row_stride);

/* N observations of length n, in memory or from a callback; one of data and read is NULL.
 * Observations in memory are read piece by piece: no copy of all of them is made, in float32 neither. */
typedef struct shrinkwarp_observations {
  size_t struct_size;
  int64_t problems;   /* N >= 0 */
  int64_t dimension;  /* n, the dictionary's rows */
  const void* data;   /* entry j of observation i at data[i * row_stride + j]; may be NULL where N = 0 */
  int64_t row_stride; /* >= n; 0 stands for n, rows without gaps */
  int32_t type;       /* of data: SHRINKWARP_FLOAT64 by default */
  int32_t reserved;   /* 0 */
  shrinkwarp_read read;
  void* read_user;  /* handed to read */
  const char* name; /* begins the message of an error: a file, say. NULL for "observations" */
} shrinkwarp_observations;

/* Fills in the defaults: nothing but the type. Fails with VALUE_ERROR (NULL; a size that is none of this struct). */
SHRINKWARP_API shrinkwarp_status shrinkwarp_observations_init(shrinkwarp_observations* observations,
                                                              size_t struct_size);

/* ---- How lambda of each problem is found ------------------------------------------------------------------------- */

/* A number for all problems, or one for each. lambda = 0 takes the least-squares code of least norm, lambda >=
 * lambda_max the code 0. The last three are points of a problem's exact path, which working sets find on the CPU,
 * whatever the context, from the code 0, without groups and weights of 0:
 *
 * L1_RADIUS       where sum_j w_j |z_j| comes to the number, or 0. The objective is then 1/2 ||x - D z||^2, dual_gap
 *                 that of the problem in the radius; not with a ridge
 * RESIDUAL_NORM   the largest with ||x - D z|| <= number
 * MAX_NONZEROS    where one nonzero more than the number would come into use, or 1e-6 lambda_max */
enum {
  SHRINKWARP_LAMBDA_VALUE = 1,              /* number >= 0, the same for all */
  SHRINKWARP_LAMBDA_PER_PROBLEM = 2,        /* values[i] >= 0 */
  SHRINKWARP_LAMBDA_SAMPLE_FRACTION = 3,    /* number > 0, of the problem's own lambda_max = ||D'x_i||_inf */
  SHRINKWARP_LAMBDA_RECORDING_FRACTION = 4, /* number > 0, of the largest lambda_max of all problems */
  SHRINKWARP_LAMBDA_L1_RADIUS = 5,          /* number > 0 */
  SHRINKWARP_LAMBDA_RESIDUAL_NORM = 6,      /* number > 0 */
  SHRINKWARP_LAMBDA_MAX_NONZEROS = 7        /* number >= 0 */
};

/* lambda_max, from shrinkwarp_recording_lambda_max, spares RECORDING_FRACTION a pass over the observations; negative
 * where it is not known. */
typedef struct shrinkwarp_lambda {
  size_t struct_size;
  int32_t kind;         /* SHRINKWARP_LAMBDA_SAMPLE_FRACTION by default */
  int32_t reserved;     /* 0 */
  double number;        /* 0 by default, which a fraction may not be */
  const double* values; /* [value_count] of PER_PROBLEM, else not looked at */
  int64_t value_count;  /* N */
  double lambda_max;    /* -1 by default */
} shrinkwarp_lambda;

/* Fills in the defaults. Fails with VALUE_ERROR (NULL; a size that is none of this struct). */
SHRINKWARP_API shrinkwarp_status shrinkwarp_lambda_init(shrinkwarp_lambda* lambda, size_t struct_size);

/* ---- Options of a solve ------------------------------------------------------------------------------------------ */

enum {
  SHRINKWARP_SOLVER_AUTOMATIC = 0,        /* the fastest that does what is asked */
  SHRINKWARP_SOLVER_ISTA = 1,             /* proximal gradient */
  SHRINKWARP_SOLVER_FISTA = 2,            /* accelerated, with restarts unless switched off */
  SHRINKWARP_SOLVER_WORKING_SET = 3,      /* exact solves on growing sets of atoms */
  SHRINKWARP_SOLVER_PLAIN_WORKING_SET = 4 /* the same, prepared faster, for few problems */
};

/* Where a running call stands. */
typedef struct shrinkwarp_progress {
  size_t struct_size;
  int64_t done;        /* problems finished, certified or given up */
  int64_t total;       /* problems in all */
  int64_t unconverged; /* of those finished, how many missed the gap asked for */
  double worst_gap;    /* largest relative gap among the finished */
  int64_t iterations;  /* sum over problems */
} shrinkwarp_progress;

/* Called between blocks of iterations. Any return but 0 asks the call to stop; it may still finish where nothing is
 * left to do. A signal handler or another thread stops a solve by a flag that this looks at. */
typedef int (*shrinkwarp_on_progress)(void* user, const shrinkwarp_progress* progress);
/* A line for each decision of a solve, without a newline; lasts during the call. level: 0 information, 1 warning. */
typedef void (*shrinkwarp_on_log)(void* user, int32_t level, const char* line);
/* Other than 0 leaves problem i out, solved before perhaps. The same answer each time that it is asked. */
typedef int (*shrinkwarp_skip)(void* user, int64_t problem);

/* What is solved is
 *
 *   1/2 ||x - D z||^2 + lambda sum_g w_g ||z_g||_2 + mu / 2 ||z||^2,    in groups of one lambda sum_j w_j |z_j|,
 *
 * with z >= 0 where `nonnegative`; group g is the consecutive atoms g group_size .. (g + 1) group_size - 1.
 *
 * gap             a problem is done when its gap <= gap * 1/2 ||x||^2; at least 2e-14
 * max_iterations  of a problem; of working sets: times that a set of atoms is solved
 * memory_limit    bytes of all that a call holds, on the host and on the device each; at least shrinkwarp_least_memory.
 *                 Not counted are the caller's arrays, and what a result holds
 * weights         NULL for 1. 0 leaves a group unpenalised, infinity leaves it out: z_g = 0. Others from 1e-18 to 1e18
 * group_size      >= 1, divides m
 * nonnegative     takes neither groups nor weights of 0
 * initial_...     a warm start: codes of all N problems in the arrays of a batch, such as a result of other lambdas has
 *                 them; NULL starts at 0. Entries that the penalty does not allow count as 0. They are copied, 12 bytes
 *                 an entry
 * skip            leaves problems out
 * ..._user        handed to the function of that name */
typedef struct shrinkwarp_options {
  size_t struct_size;
  int32_t solver;                     /* SHRINKWARP_SOLVER_AUTOMATIC by default */
  int32_t restart;                    /* 1: adaptive restart of fista; 0 for none */
  double gap;                         /* 1e-6 */
  int64_t max_iterations;             /* 100000 */
  int64_t memory_limit;               /* 4294967296 */
  const double* weights;              /* NULL, or [m / group_size] */
  int64_t weight_count;               /* 0, or m / group_size */
  int64_t group_size;                 /* 1 */
  double ridge;                       /* 0: mu of an elastic net */
  int32_t nonnegative;                /* 0 */
  int32_t reserved;                   /* 0 */
  const int64_t* initial_offsets;     /* NULL, or [N + 1] */
  const int32_t* initial_indices;     /* NULL, or [initial_entries] */
  const double* initial_values;       /* the same */
  int64_t initial_entries;            /* 0 */
  shrinkwarp_skip skip;               /* NULL for none, as the others */
  void* skip_user;                    /* NULL */
  shrinkwarp_on_progress on_progress; /* NULL */
  void* progress_user;                /* NULL */
  shrinkwarp_on_log on_log;           /* NULL */
  void* log_user;                     /* NULL */
} shrinkwarp_options;

/* Fills in the defaults, as the comments above have them. Fails with VALUE_ERROR (NULL; a size that is none of this
 * struct). */
SHRINKWARP_API shrinkwarp_status shrinkwarp_options_init(shrinkwarp_options* options, size_t struct_size);

/* The smallest memory_limit for dictionaries [rows, atoms] on the context's device, with the options' solver and
 * penalty.
 *
 * options     NULL for the defaults
 * bytes       written where the call succeeds
 * Fails with  VALUE_ERROR, SHAPE_ERROR (as a solve with these options) */
SHRINKWARP_API shrinkwarp_status shrinkwarp_least_memory(const shrinkwarp_context* context, int64_t rows, int64_t atoms,
                                                         const shrinkwarp_options* options, int64_t* bytes);

/* ---- Results ----------------------------------------------------------------------------------------------------- */

/* Problems that have finished. Entry i of each array is of observation index[i]. Its code has the atoms
 * indices[offsets[i] .. offsets[i + 1]), ascending, with their values: CSR of shape (problems, atoms), as SciPy has it.
 * Everything belongs to the code that is delivered: objective and gap are recomputed from it in float64. */
typedef struct shrinkwarp_batch {
  size_t struct_size;
  int64_t problems;          /* in this batch */
  int64_t atoms;             /* m */
  const int64_t* index;      /* [problems] ascending */
  const int64_t* offsets;    /* [problems + 1], offsets[0] = 0 */
  const int32_t* indices;    /* [offsets[problems]] */
  const double* values;      /* the same */
  const double* lambda;      /* [problems], as the following */
  const double* objective;   /* 1/2 ||x - D z||^2 and the penalty */
  const double* dual_gap;    /* absolute: the objective is at most this far from the optimum */
  const int64_t* iterations; /* that it took, counted as max_iterations */
  const uint8_t* converged;  /* 1 where dual_gap <= gap * 1/2 ||x||^2 */
} shrinkwarp_batch;

/* Takes problems as they finish, each once, in whatever order; the batch lasts during the call. Returns 0; any other
 * number ends the solve with SHRINKWARP_CALLBACK_ERROR. */
typedef int (*shrinkwarp_take)(void* user, const shrinkwarp_batch* batch);

/* Of the problems that a call solved. */
typedef struct shrinkwarp_summary {
  size_t struct_size;
  int64_t problems;
  int64_t unconverged; /* that missed their gap */
  int64_t nonzeros;    /* of their codes */
  int64_t iterations;  /* sum over problems */
  double worst_gap;    /* largest relative gap, dual_gap / (1/2 ||x||^2) */
} shrinkwarp_summary;

/* All 0. Fails with VALUE_ERROR (NULL; a size that is none of this struct). */
SHRINKWARP_API shrinkwarp_status shrinkwarp_summary_init(shrinkwarp_summary* summary, size_t struct_size);

typedef struct shrinkwarp_result shrinkwarp_result;

/* All problems of the result, in the order of the observations. NULL for NULL. Lasts as long as the result. */
SHRINKWARP_API const shrinkwarp_batch* shrinkwarp_result_batch(const shrinkwarp_result* result);
/* NULL is ignored. */
SHRINKWARP_API void shrinkwarp_result_destroy(shrinkwarp_result* result);

/* ---- Solving ----------------------------------------------------------------------------------------------------- */

/* Solves all problems and holds their codes.
 *
 * dictionary  made on the context's device
 * options     NULL for the defaults
 * summary     NULL, or initialised; written where the call succeeds
 * result      written: the new handle. Where the call was cancelled, a result with the problems that had finished;
 *             where it fails otherwise, NULL
 *
 * A problem's bits do not depend on the others, on N, on the memory limit or on the number of threads.
 * Cost        of the memory, 12 bytes a nonzero and 49 a problem, twice while they are put in order
 * Fails with  VALUE_ERROR (also a row with NaN or infinity, or whose result leaves the range of float64: names it; a
 *             residual norm that no code of the row has), SHAPE_ERROR, DEVICE_ERROR, OUT_OF_MEMORY, CANCELLED,
 *             CALLBACK_ERROR, CUDA_ERROR, CUBLAS_ERROR */
SHRINKWARP_API shrinkwarp_status shrinkwarp_solve(shrinkwarp_context* context, const shrinkwarp_dictionary* dictionary,
                                                  const shrinkwarp_observations* observations,
                                                  const shrinkwarp_lambda* lambda, const shrinkwarp_options* options,
                                                  shrinkwarp_summary* summary, shrinkwarp_result** result);

/* The same, with codes going to `take` as they finish: memory is bounded by options->memory_limit, whatever N.
 *
 * take        called with `user` and the problems that have finished
 *
 * The bits are those of shrinkwarp_solve. What has finished before a failure has been delivered. Fails as
 * shrinkwarp_solve. */
SHRINKWARP_API shrinkwarp_status shrinkwarp_solve_stream(shrinkwarp_context* context,
                                                         const shrinkwarp_dictionary* dictionary,
                                                         const shrinkwarp_observations* observations,
                                                         const shrinkwarp_lambda* lambda,
                                                         const shrinkwarp_options* options, shrinkwarp_take take,
                                                         void* user, shrinkwarp_summary* summary);

/* lambda_max of each observation, the smallest lambda whose code is 0: ||D'x_i||_inf, and as the penalty of the options
 * has it.
 *
 * options     NULL for the defaults; the penalty and memory_limit count
 * lambda_max  [capacity], written: entry i of observation i. After a failure it holds nothing of use
 * capacity    at least N
 *
 * Cost        2 n m N flops, 8 bytes an observation while the call runs; reads the observations once
 * Fails with  VALUE_ERROR (NULL where N > 0; NaN or infinity in a row; a lambda_max that leaves the range of float64),
 *             SHAPE_ERROR, DEVICE_ERROR, OUT_OF_MEMORY, CALLBACK_ERROR, CUDA_ERROR */
SHRINKWARP_API shrinkwarp_status shrinkwarp_lambda_max(shrinkwarp_context* context,
                                                       const shrinkwarp_dictionary* dictionary,
                                                       const shrinkwarp_observations* observations,
                                                       const shrinkwarp_options* options, double* lambda_max,
                                                       int64_t capacity);
/* The largest of them, 0 where N = 0, in memory that does not depend on N; *largest is written where the call
 * succeeds. */
SHRINKWARP_API shrinkwarp_status shrinkwarp_recording_lambda_max(shrinkwarp_context* context,
                                                                 const shrinkwarp_dictionary* dictionary,
                                                                 const shrinkwarp_observations* observations,
                                                                 const shrinkwarp_options* options, double* largest);

#ifdef __cplusplus
}
#endif

#endif /* SHRINKWARP_H */
