# Warnings for our own targets: cenote_warnings(target).
function(cenote_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
    -Wno-sign-conversion -Wnon-virtual-dtor -Wold-style-cast)
  if(CENOTE_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
