# What turns a bug that corrupts memory into a crash instead of a way in.
# scripts/check-hardening proves it on the programs that were built.
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

add_compile_options(-fstack-protector-strong -fstack-clash-protection)
add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
# Needs optimisation, and sanitizers check the same calls better.
if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT TL_SANITIZE)
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
