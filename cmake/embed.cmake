# tl_embed(TARGET FILE...): files as C arrays of a library, tl_asset_NAME_EXT each (see
# services/lib/page/assets.h). As a script: FILE and OUTPUT are given with -D.
if(CMAKE_SCRIPT_MODE_FILE)
  get_filename_component(name ${FILE} NAME)
  string(MAKE_C_IDENTIFIER ${name} symbol)
  file(READ ${FILE} hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
  file(WRITE ${OUTPUT} "#include \"assets.h\"\nstatic const unsigned char bytes[] = {${bytes}};\n"
       "const struct tl_asset tl_asset_${symbol} = {bytes, sizeof(bytes)};\n")
  return()
endif()

set(TL_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
function(tl_embed target)
  foreach(file ${ARGN})
    get_filename_component(name ${file} NAME)
    set(output ${CMAKE_CURRENT_BINARY_DIR}/assets/${name}.c)
    add_custom_command(OUTPUT ${output} DEPENDS ${file} ${TL_EMBED_SCRIPT}
      COMMAND ${CMAKE_COMMAND} -DFILE=${CMAKE_CURRENT_SOURCE_DIR}/${file} -DOUTPUT=${output}
              -P ${TL_EMBED_SCRIPT} VERBATIM)
    target_sources(${target} PRIVATE ${output})
  endforeach()
endfunction()
