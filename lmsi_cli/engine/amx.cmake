# Builds llama.cpp with amx.h, which says what it mends. A file of its own, so that flags which
# CMAKE_ARGS may set are kept and a path may hold spaces:
#   CMAKE_ARGS="-DCMAKE_PROJECT_INCLUDE='.../amx.cmake'" pip install --no-binary llama-cpp-python ...
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT LMSI_AMX)
  set(LMSI_AMX TRUE) # projects within projects inherit the options
  add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/amx.h\">")
endif()
