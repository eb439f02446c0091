# The process around the pipeline: configuration, commands, log, metrics, HTTP. Included by CMakeLists.txt.
find_package(CLI11 REQUIRED)
find_package(spdlog REQUIRED)
find_package(simdjson REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(civetweb REQUIRED)

configure_file(version_text.h.in ${CMAKE_CURRENT_BINARY_DIR}/generated/daemon/version_text.h)

add_library(evictd_app STATIC
  check_files.cpp
  check_nulls.cpp
  command_line.cpp
  config.cpp
  config_file.cpp
  explain.cpp
  help.cpp
  http.cpp
  http_server.cpp
  json.cpp
  log.cpp
  loop.cpp
  metrics.cpp
  metrics_status.cpp
  poll.cpp
  signals.cpp
  status.cpp
  status_page.cpp
)
target_link_libraries(evictd_app
  PUBLIC evictd_options evictd_mapping evictd_pipeline fmt::fmt
  PRIVATE evictd_postgres evictd_redis CLI11::CLI11 spdlog::spdlog simdjson::simdjson
          prometheus-cpp::core civetweb::civetweb)

# Where the rooms are wired together.
add_executable(evictd
  main.cpp
  commands/check.cpp
  commands/drop.cpp
  commands/explain_command.cpp
  commands/lua.cpp
  commands/purge.cpp
  commands/run.cpp
  commands/sink_run.cpp
  commands/snapshot_connection.cpp
  commands/watch.cpp
  commands/wiring.cpp
)
target_include_directories(evictd PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/generated)
target_link_libraries(evictd PRIVATE evictd_app evictd_postgres evictd_redis)
if(TARGET evictd_kafka)
  target_compile_definitions(evictd PRIVATE EVICTD_WITH_KAFKA)
  target_link_libraries(evictd PRIVATE evictd_kafka)
endif()
set_target_properties(evictd PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
