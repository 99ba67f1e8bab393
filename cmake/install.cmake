# The public client library, for anybody's trainer: libthroughline with nothing visible but
# the functions of client.h and error.h, those two headers, and a pkg-config file.
if(NOT TARGET tl_client)
  return()
endif()
target_link_libraries(tl_client PUBLIC m)

add_library(tl_public SHARED $<TARGET_OBJECTS:tl_client>)
set_target_properties(tl_public PROPERTIES
  OUTPUT_NAME throughline
  LINKER_LANGUAGE C
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}
  LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/throughline.map)
target_link_libraries(tl_public PRIVATE tl_log tl_member tl_chain tl_wire tl_codec tl_base m)
target_link_options(tl_public PRIVATE
  -Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/throughline.map -Wl,--as-needed)

# The file finds the library from where it lies itself, so the prefix may be moved.
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH TL_PC_TO_INCLUDE ${CMAKE_INSTALL_PREFIX}/${pc_dir}
     ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(${CMAKE_CURRENT_LIST_DIR}/throughline.pc.in throughline.pc @ONLY)

install(TARGETS tl_public LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library)
install(FILES include/throughline/client.h include/throughline/error.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/throughline COMPONENT library)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/throughline.pc
        DESTINATION ${pc_dir} COMPONENT library)
