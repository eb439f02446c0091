# Builds broken on purpose: see broken.py.
find_program(EVICTD_BROKEN_PYTHON python3 REQUIRED)

# Sets `result` to a copy of one source of a room, with the change `change`. Linked before the room's library it takes its
# original's place: whatever that defines is there already, so the linker leaves it in the library.
function(evictd_broken_source result change room)
  execute_process(COMMAND ${EVICTD_BROKEN_PYTHON} ${CMAKE_SOURCE_DIR}/tests/broken/broken.py --file ${change}
    OUTPUT_VARIABLE file COMMAND_ERROR_IS_FATAL ANY)
  set(original ${CMAKE_SOURCE_DIR}/${file})
  set(copy ${CMAKE_BINARY_DIR}/broken/${change}/${file})
  get_filename_component(folder ${copy} DIRECTORY)
  file(MAKE_DIRECTORY ${folder})
  if(NOT TARGET evictd_broken_copy_${change})
    add_custom_command(OUTPUT ${copy}
      COMMAND ${EVICTD_BROKEN_PYTHON} ${CMAKE_SOURCE_DIR}/tests/broken/broken.py ${change} ${original} ${copy}
      DEPENDS ${original} ${CMAKE_SOURCE_DIR}/tests/broken/broken.py VERBATIM)
    add_custom_target(evictd_broken_copy_${change} DEPENDS ${copy})
  endif()
  set_source_files_properties(${copy} PROPERTIES GENERATED TRUE)
  get_target_property(sources evictd_${room} SOURCES)
  get_target_property(directory evictd_${room} SOURCE_DIR)
  list(FILTER sources INCLUDE REGEX "\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "^/")
  list(TRANSFORM sources PREPEND ${directory}/)
  if(NOT ${original} IN_LIST sources)
    message(FATAL_ERROR "broken.py: '${change}' changes ${file}, which is no source of ${room}")
  endif()
  set(${result} ${copy} PARENT_SCOPE)
endfunction()

# The same for one of the Lua texts: sets `result` to a copy of the source that holds all of them.
function(evictd_broken_lua result change)
  execute_process(COMMAND ${EVICTD_BROKEN_PYTHON} ${CMAKE_SOURCE_DIR}/tests/broken/broken.py --file ${change}
    OUTPUT_VARIABLE file COMMAND_ERROR_IS_FATAL ANY)
  get_target_property(folder evictd_redis SOURCE_DIR)
  file(GLOB texts ${folder}/lua/*.lua)
  set(made ${CMAKE_BINARY_DIR}/broken/${change})
  file(MAKE_DIRECTORY ${made}/lua)
  set(copies)
  foreach(text ${texts})
    get_filename_component(name ${text} NAME)
    if(text STREQUAL ${CMAKE_SOURCE_DIR}/${file})
      add_custom_command(OUTPUT ${made}/lua/${name}
        COMMAND ${EVICTD_BROKEN_PYTHON} ${CMAKE_SOURCE_DIR}/tests/broken/broken.py ${change} ${text} ${made}/lua/${name}
        DEPENDS ${text} ${CMAKE_SOURCE_DIR}/tests/broken/broken.py VERBATIM)
      list(APPEND copies ${made}/lua/${name})
    else()
      list(APPEND copies ${text})
    endif()
  endforeach()
  add_custom_command(OUTPUT ${made}/lua_texts.cpp
    COMMAND ${CMAKE_COMMAND} "-DFILES=${copies}" -DOUTPUT=${made}/lua_texts.cpp -P ${folder}/embed.cmake
    DEPENDS ${copies} ${folder}/embed.cmake VERBATIM)
  add_custom_target(evictd_broken_copy_${change} DEPENDS ${made}/lua_texts.cpp)
  set_source_files_properties(${made}/lua_texts.cpp PROPERTIES GENERATED TRUE)
  set(${result} ${made}/lua_texts.cpp PARENT_SCOPE)
endfunction()

function(evictd_broken name change room)
  evictd_broken_source(source ${change} ${room})
  add_executable(evictd_broken_${name} $<TARGET_OBJECTS:evictd> ${source})
  add_dependencies(evictd_broken_${name} evictd_broken_copy_${change})
  target_include_directories(evictd_broken_${name} PRIVATE $<TARGET_PROPERTY:evictd_${room},INCLUDE_DIRECTORIES>)
  get_target_property(evictd_libraries evictd LINK_LIBRARIES)
  target_link_libraries(evictd_broken_${name} PRIVATE ${evictd_libraries})
  set_target_properties(evictd_broken_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
endfunction()
