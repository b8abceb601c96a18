# CENOTE_SANITIZE=address (with UBSan) or thread, for everything that is built.
if(CENOTE_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(CENOTE_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(NOT CENOTE_SANITIZE STREQUAL "")
  message(FATAL_ERROR "CENOTE_SANITIZE must be empty, address or thread, got ${CENOTE_SANITIZE}")
endif()

# Instrumented kernels take a compiler's optimiser minutes per file: less of it will do.
if(CENOTE_SANITIZE)
  string(REPLACE "-O2" "-O1" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
  string(REGEX REPLACE "-g( |$)" "-g1\\1" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
endif()

# With the sanitizers' instrumentation g++ 12 warns about std::function inside std::regex, which is initialised.
if(CENOTE_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wno-maybe-uninitialized)
endif()
