// Put in front of torch-sys's C++ by .cargo/config.toml, so that a missing or wrong libtorch is one plain error.
// GLOG_USE_GLOG_EXPORT is how torch-sys compiles its shim; other C++ in the dependency tree is left alone.
#if defined(__cplusplus) && defined(GLOG_USE_GLOG_EXPORT)

// An #error that expands macros, so that it can name the version found. The text is tokens, not a string: no quotes in it.
#define PENJING_STRING(...) #__VA_ARGS__
#define PENJING_EXPANDED(...) PENJING_STRING(__VA_ARGS__)
#define PENJING_PRAGMA_(text) _Pragma(#text)
#define PENJING_PRAGMA(text) PENJING_PRAGMA_(text)
#define PENJING_ERROR(...) PENJING_PRAGMA(GCC error PENJING_EXPANDED(__VA_ARGS__))

#if !__has_include(<torch/csrc/api/include/torch/version.h>)
PENJING_ERROR(no libtorch where LIBTORCH points (vendor/libtorch unless exported); wanted 2.11, for tch 0.24. hint: run make setup, or see docs/install.md)
#else
#include <torch/csrc/api/include/torch/version.h>
#if TORCH_VERSION_MAJOR != 2 || TORCH_VERSION_MINOR != 11
PENJING_ERROR(found libtorch TORCH_VERSION_MAJOR.TORCH_VERSION_MINOR where LIBTORCH points (vendor/libtorch unless exported); wanted 2.11, for tch 0.24. hint: correct or unset LIBTORCH and run make setup, or see docs/install.md)
#endif
#endif

#endif
