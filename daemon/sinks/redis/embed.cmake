# Writes the texts of FILES (a list of .lua files) into OUTPUT as C++ constants: kLua_<name>.
set(text "// Made by embed.cmake from the files in lua/.\n#include \"daemon/sinks/redis/lua_texts.h\"\n\nnamespace evictd {\n")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} lua)
  # Raw strings keep the text as it is; ';' and brackets would be eaten by list handling, so no lists here.
  string(APPEND text "\nconst char kLua_${name}[] = R\"lua(${lua})lua\";\n")
endforeach()
string(APPEND text "\n}  // namespace evictd\n")
file(WRITE ${OUTPUT} "${text}")
