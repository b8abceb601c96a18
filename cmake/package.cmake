# Installing cenote, and what find_package(cenote [COMPONENTS torch]) and pkg-config find afterwards.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(cenote_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/cenote")

install(TARGETS cenote EXPORT cenoteTargets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/cenote" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")
install(EXPORT cenoteTargets NAMESPACE cenote:: DESTINATION "${cenote_cmake_dir}")

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/cenoteConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/cenoteConfig.cmake" INSTALL_DESTINATION "${cenote_cmake_dir}"
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/cenoteConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/cenoteConfig.cmake" "${PROJECT_BINARY_DIR}/cenoteConfigVersion.cmake"
  DESTINATION "${cenote_cmake_dir}")

# The prefix follows from where cenote.pc lies, so that the installed tree can be moved.
file(RELATIVE_PATH cenote_pc_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file("${PROJECT_SOURCE_DIR}/cmake/cenote.pc.in" "${PROJECT_BINARY_DIR}/cenote.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/cenote.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

# The installed files find each other by place, and torch where it was when they were linked.
set(torch_library_dir "$<$<BOOL:${CENOTE_TORCH}>:${TORCH_INSTALL_PREFIX}/lib>")
if(CENOTE_TORCH)
  install(TARGETS cenote_torch LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/bindings/torch/include/cenote"
    DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
  set_target_properties(cenote_torch PROPERTIES INSTALL_RPATH "$ORIGIN;${torch_library_dir}")
endif()
if(CENOTE_CLI)
  install(TARGETS cenote_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  file(RELATIVE_PATH cenote_lib_from_bin "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
  set_target_properties(cenote_cli PROPERTIES
    INSTALL_RPATH "$ORIGIN/${cenote_lib_from_bin};${torch_library_dir}")
endif()
